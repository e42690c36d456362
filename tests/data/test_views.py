"""A student's view is exactly the part of the teacher's that its relation says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slotseg.data.views import ViewRelation, ViewSampler
from slotseg.errors import ConfigError

SIDES = st.integers(1, 24)


@st.composite
def relations(draw, size=None):
    """Any window, also one that reaches over the edges; ``size``: of the view, or "window"."""
    weak = draw(st.tuples(SIDES, SIDES))
    content = tuple(draw(st.integers(1, edge)) for edge in weak)
    window = draw(st.tuples(SIDES, SIDES))
    corner = [draw(st.integers(-edge, edge)) for edge in weak]
    seen = window if size == "window" else draw(st.tuples(SIDES, SIDES))
    return ViewRelation(*corner, *window, draw(st.booleans()), seen, weak, content)


def painted(size: tuple[int, int]) -> tuple[np.ndarray, torch.Tensor]:
    """An image of which no two pixels have the same colour, and a map of their numbers."""
    numbers = np.arange(size[0] * size[1]).reshape(size)
    image = np.dstack([numbers % 199, numbers // 199, np.full(size, 255)]).astype(np.uint8)
    return image, torch.from_numpy(numbers)


@given(view=relations(size="window"))
def test_every_pixel_of_a_shifted_view_is_the_one_its_map_says(view):
    """Without scaling nothing is interpolated, so all colours are those of single pixels."""
    image, numbers = painted(view.weak_size)
    seen = view.look(image).astype(np.int64)
    carried = view.carry(numbers, fill=-1)
    assert seen.shape[:2] == tuple(carried.shape) == view.size
    inside = seen[:, :, 2] == 255
    assert np.array_equal(inside, (carried >= 0).numpy())
    assert np.array_equal((seen[:, :, 1] * 199 + seen[:, :, 0])[inside], carried.numpy()[inside])
    assert (seen[~inside] == 128).all()
    y, x = np.divmod(carried.numpy()[inside], view.weak_size[1])
    assert (y < view.content[0]).all() and (x < view.content[1]).all()


@given(view=relations())
def test_carrying_takes_the_pixel_under_each_centre(view):
    """The definition, pixel by pixel."""
    _, numbers = painted(view.weak_size)
    carried = view.carry(numbers, fill=-1)
    for row, column in np.ndindex(*view.size):
        across = view.size[1] - 1 - column if view.flip else column
        y = view.top + (2 * row + 1) * view.height // (2 * view.size[0])
        x = view.left + (2 * across + 1) * view.width // (2 * view.size[1])
        inside = 0 <= y < view.content[0] and 0 <= x < view.content[1]
        expected = y * view.weak_size[1] + x if inside else -1
        assert carried[row, column] == expected


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("size", [(48, 96), (17, 41), (90, 30)], ids=str)
def test_scaled_images_and_maps_have_the_same_geometry(size, flip):
    """Of a ramp interpolation gives back the place itself: image and map agree to half a pixel."""
    weak = (40, 60)
    rows, columns = np.mgrid[: weak[0], : weak[1]]
    image = np.dstack([rows * 4, columns * 4, rows * 0]).astype(np.uint8)
    view = ViewRelation(6, 9, 30, 45, flip, size, weak, weak)
    seen = view.look(image)[:, :, :2] / 4
    carried = view.carry(torch.from_numpy(np.stack([rows, columns])), fill=-1)
    distance = np.abs(seen - carried.numpy().transpose(1, 2, 0))
    scale = np.maximum(np.array([30, 45]) / size, 1)
    # Interpolation mirrors the ramp at the edges of the window, as far as its filter reaches.
    inner = distance[3:-3, 3:-3]
    assert (inner <= 0.5 + 0.3 * scale).all()
    assert np.abs((seen - carried.numpy().transpose(1, 2, 0))[3:-3, 3:-3].mean((0, 1))).max() < 0.2


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("factor", [1, 2, 5])
def test_blocks_of_colour_arrive_whole(factor, flip):
    """Enlarged by a whole factor, each pixel of the map becomes a block of pixels."""
    _, numbers = painted((6, 8))
    view = ViewRelation(1, 2, 4, 5, flip, (4 * factor, 5 * factor), (6, 8), (6, 8))
    part = numbers[1:5, 2:7]
    part = part.flip(1) if flip else part
    expected = part.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    assert torch.equal(view.carry(numbers, fill=-1), expected)


def test_an_image_of_wide_stripes_is_carried_to_the_pixel():
    """Away from the edges of segments colours are pure, and must be those of the carried map."""
    ids = np.zeros((64, 96), np.int64)
    ids[20:, :] = 1
    ids[:, 40:] += 2
    shades = np.array([10, 80, 160, 240], np.uint8)
    view = ViewRelation(5, 11, 50, 70, True, (100, 140), (64, 96), (64, 96))
    seen = view.look(np.repeat(shades[ids][:, :, None], 3, axis=2))[:, :, 0]
    carried = view.carry(torch.from_numpy(ids), fill=-1).numpy()
    pure = np.isin(seen, shades)
    assert pure.mean() > 0.9
    assert np.array_equal(seen[pure], shades[carried[pure]])
    assert np.unique(carried).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.float16, torch.uint8], ids=str)
def test_maps_of_any_type_and_number_of_axes_are_carried(dtype):
    values = torch.rand(2, 3, 5, 7).mul(2).to(dtype)
    view = ViewRelation(-1, 1, 5, 6, False, (4, 9), (5, 7), (5, 7))
    carried = view.carry(values, fill=0)
    assert carried.shape == (2, 3, 4, 9) and carried.dtype == dtype
    assert torch.equal(carried[1, 2], view.carry(values[1, 2], fill=0))


def test_the_result_is_a_tensor_of_its_own():
    values = torch.zeros(5, 7)
    view = ViewRelation(0, 0, 5, 7, False, (5, 7), (5, 7), (5, 7))
    view.carry(values, fill=-1).add_(1)
    assert not values.any()


def test_a_map_of_another_size_is_refused():
    view = ViewRelation(0, 0, 5, 7, False, (5, 7), (5, 7), (5, 7))
    with pytest.raises(ValueError, match=r"\(4, 7\) pixels is not one of the weak image"):
        view.carry(torch.zeros(4, 7), fill=0)


def test_grey_images_keep_their_channel():
    view = ViewRelation(-2, 0, 5, 7, True, (10, 9), (5, 7), (4, 7))
    assert view.look(np.zeros((5, 7, 1), np.uint8)).shape == (10, 9, 1)


@given(
    weak=st.tuples(st.integers(2, 60), st.integers(2, 60)),
    scale=st.tuples(st.floats(0.1, 2.0), st.floats(0.1, 2.0)).map(sorted).map(tuple),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_drawn_windows_lie_in_the_picture_or_hold_it(weak, scale, seed, data):
    content = tuple(data.draw(st.integers(1, edge)) for edge in weak)
    np.random.seed(seed)
    view = ViewSampler(scale, flip=True).draw(weak, content)
    assert view.size == view.weak_size == weak and view.content == content
    for first, length, edge, whole in zip(
        (view.top, view.left), (view.height, view.width), content, weak, strict=True
    ):
        assert scale[0] * whole - 0.5 <= max(length, 1) <= max(scale[1] * whole + 0.5, 1)
        assert min(0, edge - length) <= first <= max(0, edge - length)


def test_all_places_and_both_directions_are_drawn():
    np.random.seed(0)
    drawn = [ViewSampler((0.5, 0.5), flip=True).draw((4, 6), (4, 6)) for _ in range(200)]
    assert {view.top for view in drawn} == {0, 1, 2}
    assert {view.left for view in drawn} == {0, 1, 2, 3}
    assert 70 < sum(view.flip for view in drawn) < 130
    np.random.seed(0)
    plain = [ViewSampler((0.5, 0.5)).draw((4, 6), (4, 6)) for _ in range(200)]
    assert not any(view.flip for view in plain)
    # Switching mirroring off moves no window.
    assert [view.top for view in plain] == [view.top for view in drawn]


@pytest.mark.parametrize("scale", [(), (0.5,), (0.0, 1.0), (1.0, 0.5)], ids=str)
def test_wrong_scales_name_the_key(scale):
    with pytest.raises(ConfigError, match="SEMI.VIEW_SCALE is"):
        ViewSampler(scale)
