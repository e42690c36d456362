"""Points in place of pixels."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from slotseg.errors import ConfigError
from slotseg.losses.coverage import segment_areas
from slotseg.losses.points import PointSampler, read_maps, read_one_segment, read_segments


def centres(height, width):
    """The centres of all pixels as points ``[1, height * width, 2]``, row by row."""
    y, x = torch.meshgrid(
        (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij"
    )
    return torch.stack([x, y], dim=-1).reshape(1, -1, 2)


def test_at_the_centres_of_pixels_maps_are_read_as_they_are():
    maps = torch.randn(1, 3, 4, 6)
    torch.testing.assert_close(read_maps(maps, centres(4, 6)), maps.flatten(2))


def test_between_two_centres_lies_the_mean():
    maps = torch.tensor([[[[1.0, 3.0]]]])
    points = torch.tensor([[[0.5, 0.5], [0.0, 0.5], [0.375, 0.1]]])
    torch.testing.assert_close(read_maps(maps, points), torch.tensor([[[2.0, 1.0, 1.5]]]))


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 6))
def test_segments_are_read_as_their_one_hot_maps_would_be(seed, height, width):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randint(-1, 4, (2, height, width), generator=generator)
    points = torch.rand(2, 9, 2, generator=generator)
    shares = read_segments(maps, points)
    one_hot = F.one_hot(maps + 1, 5).permute(0, 3, 1, 2)[:, 1 : shares.shape[1] + 1].float()
    torch.testing.assert_close(shares, read_maps(one_hot, points))
    image, segment = torch.tensor([1, 0, 1]), torch.tensor([0, 0, shares.shape[1] - 1])
    own, known = read_one_segment(maps, image, segment, points[image])
    torch.testing.assert_close(own, shares[image, segment])
    torch.testing.assert_close(known, shares.sum(dim=1)[image])


def test_unsure_points_lie_where_certainty_is_lowest():
    sampler = PointSampler(count=40, oversample=5.0, importance=0.75)
    points = sampler.unsure(3, torch.device("cpu"), lambda x: x[..., 0])
    assert points.shape == (3, 40, 2)
    assert points.min() >= 0.0 and points.max() <= 1.0
    # 30 of 200 candidates: the leftmost 15 %; the others are anywhere.
    assert points[:, :30, 0].max() < 0.3
    assert points[:, 30:, 0].max() > 0.5


def test_without_importance_points_are_uniform_and_the_seed_decides():
    sampler = PointSampler(count=500, oversample=1.0, importance=0.0)
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append(sampler.unsure(1, torch.device("cpu"), lambda x: x[..., 0]))
    assert torch.equal(*draws)
    torch.testing.assert_close(draws[0].mean(dim=(0, 1)), torch.full((2,), 0.5), atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"count": -1}, "POINTS is -1"),
        ({"count": 8, "oversample": 0.5}, "POINTS_OVERSAMPLE is 0.5"),
        ({"count": 8, "importance": 1.5}, "POINTS_IMPORTANCE is 1.5"),
    ],
)
def test_impossible_values_name_their_key(arguments, key):
    with pytest.raises(ConfigError, match=f"LOSSES.MASKS.{key}"):
        PointSampler(**arguments)


def test_areas_count_pixels():
    maps = torch.tensor([[[0, 0, 2], [-1, 2, 2]], [[-1, -1, -1], [-1, -1, -1]]])
    assert segment_areas(maps).tolist() == [[2, 0, 3], [0, 0, 0]]
