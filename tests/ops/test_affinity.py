import pytest
import torch

from slotseg.ops.affinity import (
    color_affinity,
    cosine_affinity,
    power_affinity,
    threshold_affinity,
)

# Cosines: 0.6 between the first two, -1 between the first and third, -0.6 the second and third.
FEATURES = torch.tensor([[[2.0, 0.0], [0.3, 0.4], [-5.0, 0.0], [0.0, 0.0]]])


def symmetric(*rows: list[float]) -> torch.Tensor:
    return torch.tensor([rows])


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            cosine_affinity(FEATURES),
            symmetric([1, 0.6, 0, 0], [0.6, 1, 0, 0], [0, 0, 1, 0], [0.0, 0, 0, 0]),
        ),
        (
            power_affinity(FEATURES, 2.0),
            symmetric([1, 0.36, 0, 0], [0.36, 1, 0, 0], [0, 0, 1, 0], [0.0, 0, 0, 0]),
        ),
        (
            threshold_affinity(FEATURES, 0.5)[:, :3, :3],
            symmetric([1, 1, 1e-5], [1, 1, 1e-5], [1e-5, 1e-5, 1]),
        ),
        (
            threshold_affinity(FEATURES, 0.7)[:, :3, :3],
            symmetric([1, 1e-5, 1e-5], [1e-5, 1, 1e-5], [1e-5, 1e-5, 1]),
        ),
    ],
    ids=["cosine", "power", "low threshold", "high threshold"],
)
def test_affinities_by_hand(found, expected):
    torch.testing.assert_close(found, expected)


def test_single_precision_under_autocast():
    features = torch.randn(2, 30, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = cosine_affinity(features)
    assert torch.equal(found, cosine_affinity(features))


def test_colour_joins_each_patch_to_its_nearest_in_colour_and_place():
    # A row of four: two red, two blue; one neighbour each.
    colors = torch.tensor([[[1.0, 0, 0], [1.0, 0, 0], [0, 0, 1.0], [0, 0, 1.0]]])
    found = color_affinity(colors, (1, 4), neighbors=1)[0]
    near = 1 - 1 / 3 / 5**0.5
    expected = torch.tensor([[1, near, 0, 0], [near, 1, 0, 0], [0, 0, 1, near], [0, 0, near, 1]])
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0.0)


def test_more_neighbours_than_patches_join_all():
    found = color_affinity(torch.rand(2, 6, 3), (2, 3), neighbors=50)
    assert torch.equal(found, found.mT)
    assert (found > 0).all()
