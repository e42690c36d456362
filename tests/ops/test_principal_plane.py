import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slotseg.ops.principal_plane import principal_plane


@given(st.integers(0, 2**31 - 1))
def test_points_of_a_plane_keep_their_distances_wherever_the_plane_lies(seed):
    generator = torch.Generator().manual_seed(seed)
    flat = torch.randn(9, 2, generator=generator, dtype=torch.float64) * torch.tensor([5.0, 1.0])
    turn = torch.linalg.qr(torch.randn(7, 7, generator=generator, dtype=torch.float64))[0][:2]
    found, explained = principal_plane(flat @ turn + 3.0)
    assert explained == pytest.approx(1.0)
    torch.testing.assert_close(torch.cdist(found, found), torch.cdist(flat, flat))
    assert found.square().sum(0).diff() <= 0
    # Turned and mirrored points give the same picture.
    torch.testing.assert_close(principal_plane(-(flat @ turn))[0].abs(), found.abs())
    assert (found.gather(0, found.abs().argmax(0, keepdim=True)) > 0).all()


def test_the_share_of_the_variance_that_is_shown():
    points = torch.diag(torch.ones(4))
    # Four corners of a regular simplex spread equally over three dimensions.
    assert principal_plane(points)[1] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "points", [torch.ones(1, 5), torch.ones(6, 5), torch.ones(3, 1)], ids=["one", "equal", "flat"]
)
def test_points_without_spread_lie_in_the_middle(points):
    plane, explained = principal_plane(points)
    assert plane.shape == (len(points), 2)
    assert plane.abs().max() == 0.0
    assert explained == 1.0
