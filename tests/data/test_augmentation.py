"""The augmentation chain: image and map stay together, padding is void, colours are exact."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import pytest
from detectron2.data import transforms as T
from hypothesis import given
from hypothesis import strategies as st

from slotseg.config import get_cfg
from slotseg.data.augmentation import PadTo, WindowedResizeTransform, build_augmentations
from slotseg.data.colors import AffineColorTransform, ColorJitter, RandomColor
from slotseg.errors import ConfigError

SIDES = st.integers(2, 40)


def make_cfg(**changes: Any):
    overrides = {"IMAGE_SIZE": (24, 32), **changes}
    pairs = [item for key, value in overrides.items() for item in (f"INPUT.{key}", value)]
    return get_cfg(None, [p.replace("__", ".") if isinstance(p, str) else p for p in pairs])


def ramp(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """An image whose red is the column and green the row, both times 4; a map of the same."""
    rows, columns = np.mgrid[:height, :width]
    image = np.dstack([columns * 4, rows * 4, rows * 0]).astype(np.uint8)
    return image, (rows * 64 + columns + 1).astype(np.uint16)


def augment(cfg, image, numbers, seed=0, is_train=True):
    np.random.seed(seed)
    inputs = T.AugInput(image, sem_seg=numbers)
    transforms = T.AugmentationList(build_augmentations(cfg, is_train))(inputs)
    return inputs.image, inputs.sem_seg, transforms


CHAINS = {
    "fixed": {},
    "fixed, flipped": {"RANDOM_FLIP": "horizontal"},
    "fixed, cropped": {"CROP__ENABLED": True, "CROP__SIZE": [0.4, 0.4]},
    "shortest edge": {"RESIZE": "shortest_edge", "MIN_SIZE_TRAIN": (17, 23, 40)},
    "shortest edge, cropped": {
        "RESIZE": "shortest_edge",
        "MIN_SIZE_TRAIN": (17, 40),
        "MIN_SIZE_TRAIN_SAMPLING": "range",
        "RANDOM_FLIP": "horizontal",
        "CROP__ENABLED": True,
        "CROP__TYPE": "absolute",
        "CROP__SIZE": [12, 20],
    },
    "scale jitter": {"RESIZE": "scale_jitter", "RANDOM_FLIP": "horizontal"},
    "scale jitter, strong": {"RESIZE": "scale_jitter", "SCALE_JITTER": (0.1, 3.0)},
}


@pytest.mark.parametrize("chain", sorted(CHAINS))
@given(height=SIDES, width=SIDES, seed=st.integers(0, 2**31))
def test_image_and_map_stay_aligned(chain, height, width, seed):
    """Away from the edges a bilinear ramp is the coordinate, which the map holds as well."""
    image, numbers = ramp(height, width)
    out, segments, transforms = augment(make_cfg(**CHAINS[chain]), image, numbers, seed)
    assert out.shape[:2] == segments.shape and out.dtype == np.uint8
    labelled = segments > 0
    if chain.startswith(("fixed", "scale")):
        assert segments.shape == (24, 32)
    if not chain.startswith("scale"):
        assert labelled.all()
    resize = [t for t in transforms.transforms if isinstance(t, WindowedResizeTransform)][-1]
    rows, columns = np.divmod(segments.astype(int) - 1, 64)
    for channel, place, axis in ((0, columns, 1), (1, rows, 0)):
        # Bilinear interpolation looks this far, and an edge holds it up.
        reach = max(resize.size[axis] / resize.new_size[axis], 1) + 0.5
        low, high = place[labelled].min() + reach, place[labelled].max() - reach
        inner = labelled & (place >= low) & (place <= high)
        # The map holds the pixel in which the new centre lies, plus a quarter for rounding.
        apart = np.abs(out[:, :, channel].astype(float) / 4 - place)[inner]
        assert apart.max(initial=0) <= 0.5 + 0.25


@given(seed=st.integers(0, 2**31), height=SIDES, width=SIDES)
def test_jittered_images_keep_their_shape_and_are_padded_with_void(seed, height, width):
    image, numbers = ramp(height, width)
    out, segments, _ = augment(make_cfg(RESIZE="scale_jitter"), image, numbers, seed)
    rows, columns = np.flatnonzero(segments.any(1)), np.flatnonzero(segments.any(0))
    # What is not void is one rectangle in the upper left corner.
    assert (segments[: rows[-1] + 1, : columns[-1] + 1] > 0).all()
    assert (segments > 0).sum() == len(rows) * len(columns)
    assert (out[segments == 0] == 128).all()


@given(seed=st.integers(0, 2**31))
def test_the_same_numbers_give_the_same_sample(seed):
    image, numbers = ramp(20, 30)
    cfg = make_cfg(RESIZE="scale_jitter", RANDOM_FLIP="horizontal", COLOR_JITTER__HUE=0.3)
    first, again = (augment(cfg, image, numbers, seed)[:2] for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_other_numbers_give_other_samples():
    image, numbers = ramp(20, 30)
    cfg = make_cfg(RESIZE="scale_jitter", RANDOM_FLIP="horizontal")
    assert len({augment(cfg, image, numbers, seed)[1].tobytes() for seed in range(20)}) > 15


@pytest.mark.parametrize("resize", ["fixed", "shortest_edge", "scale_jitter"])
def test_evaluation_only_resizes(resize):
    image, numbers = ramp(24, 30)
    cfg = make_cfg(
        RESIZE=resize,
        MIN_SIZE_TEST=12,
        RANDOM_FLIP="horizontal",
        COLOR_JITTER__BRIGHTNESS=0.5,
    )
    results = [T.AugInput(image, sem_seg=numbers) for _ in range(4)]
    for inputs in results:
        T.AugmentationList(build_augmentations(cfg, False))(inputs)
    shape = {"fixed": (24, 32), "shortest_edge": (12, 15), "scale_jitter": (24, 30)}[resize]
    assert all(inputs.image.shape == (*shape, 3) for inputs in results)
    assert all(np.array_equal(inputs.image, results[0].image) for inputs in results)
    assert all((inputs.sem_seg > 0).all() for inputs in results)


def test_a_shortest_edge_of_zero_keeps_the_size():
    image, numbers = ramp(13, 9)
    cfg = make_cfg(RESIZE="shortest_edge", MIN_SIZE_TEST=0)
    out, segments, _ = augment(cfg, image, numbers, is_train=False)
    assert np.array_equal(out, image) and np.array_equal(segments, numbers)


@given(size=st.tuples(SIDES, SIDES), new_size=st.tuples(SIDES, SIDES), data=st.data())
def test_a_window_is_what_resizing_and_cropping_gives(size, new_size, data):
    height, width = (data.draw(st.integers(1, edge)) for edge in new_size)
    top = data.draw(st.integers(0, new_size[0] - height))
    left = data.draw(st.integers(0, new_size[1] - width))
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    numbers = ramp(*size)[1]
    whole = WindowedResizeTransform(size, new_size, (0, 0), new_size)
    window = WindowedResizeTransform(size, new_size, (top, left), (height, width))
    cut = np.s_[top : top + height, left : left + width]
    assert np.array_equal(
        window.apply_segmentation(numbers), whole.apply_segmentation(numbers)[cut]
    )
    difference = window.apply_image(image).astype(int) - whole.apply_image(image)[cut]
    assert np.abs(difference).max() <= 1
    # Against Detectron2's own, which knows maps of 8 bits only.
    stock = T.ResizeTransform(*size, *new_size)
    assert np.abs(whole.apply_image(image).astype(int) - stock.apply_image(image)).max() <= 1
    grey = image[:, :, :1]
    difference = window.apply_image(grey).astype(int) - whole.apply_image(grey)[cut]
    assert window.apply_image(grey).shape == (height, width, 1) and np.abs(difference).max() <= 1


@given(size=st.tuples(SIDES, SIDES), factor=st.integers(1, 4))
def test_enlarging_by_a_whole_factor_and_back_is_exact_for_maps(size, factor):
    numbers = ramp(*size)[1]
    large = (size[0] * factor, size[1] * factor)
    transform = WindowedResizeTransform(size, large, (0, 0), large)
    enlarged = transform.apply_segmentation(numbers)
    assert np.array_equal(enlarged, numbers.repeat(factor, 0).repeat(factor, 1))
    assert np.array_equal(transform.inverse().apply_segmentation(enlarged), numbers)


@pytest.mark.parametrize("chain", sorted(CHAINS))
@given(seed=st.integers(0, 2**31))
def test_inverse_brings_labels_and_points_back(chain, seed):
    image, _ = ramp(20, 30)
    blocks = np.ones((20, 30), np.uint8)
    blocks[10:, :] = 2
    blocks[:, 15:] += 2
    _, segments, transforms = augment(make_cfg(**CHAINS[chain]), image, blocks, seed)
    back = transforms.inverse().apply_segmentation(segments)
    assert back.shape == blocks.shape
    # Nearest neighbour of a nearest neighbour moves an edge by a pixel of the smaller image.
    resizes = [t for t in transforms.transforms if isinstance(t, WindowedResizeTransform)]
    shrunk = max(max(np.divide(t.size, t.new_size)) for t in resizes)
    rows, columns = np.mgrid[:20, :30]
    inner = (abs(rows - 9.5) > shrunk + 1) & (abs(columns - 14.5) > shrunk + 1) & (back > 0)
    assert np.array_equal(back[inner], blocks[inner])
    points = np.array([[3.0, 4.0], [29.0, 0.5]])
    there = transforms.apply_coords(points.copy())
    assert np.allclose(transforms.inverse().apply_coords(there), points, atol=1e-4)


def test_padding_never_cuts():
    image = np.zeros((30, 10, 3), np.uint8)
    assert PadTo((24, 32)).get_transform(image).apply_image(image).shape == (30, 32, 3)


# ---------------------------------------------------------------------------------------------
# Colours
# ---------------------------------------------------------------------------------------------


def colors(**options: float) -> RandomColor:
    return RandomColor(ColorJitter(**options))


def drawn(augmentation: RandomColor, image: np.ndarray, seed: int) -> AffineColorTransform:
    np.random.seed(seed)
    return augmentation.get_transform(image)


@given(seed=st.integers(0, 2**31))
def test_brightness_is_a_factor(seed):
    image = np.random.default_rng(seed).integers(0, 100, (4, 5, 3)).astype(np.uint8)
    transform = drawn(colors(brightness=0.5), image, seed)
    factor = transform.matrix[0, 0]
    assert 0.5 <= factor <= 1.5
    assert np.abs(transform.apply_image(image) - image * factor).max() <= 0.51


@given(seed=st.integers(0, 2**31))
def test_contrast_keeps_the_mean_grey(seed):
    image = np.random.default_rng(seed).integers(90, 160, (8, 8, 3)).astype(np.uint8)
    changed = drawn(colors(contrast=0.5), image, seed).apply_image(image)
    luma = np.array([0.299, 0.587, 0.114])
    assert (changed @ luma).mean() == pytest.approx((image @ luma).mean(), abs=0.6)


@given(seed=st.integers(0, 2**31))
def test_saturation_and_hue_leave_greys_and_luma_alone(seed):
    generator = np.random.default_rng(seed)
    augmentation = colors(saturation=0.5, hue=0.5)
    grey = np.repeat(generator.integers(0, 256, (4, 5, 1)), 3, axis=2).astype(np.uint8)
    assert np.abs(drawn(augmentation, grey, seed).apply_image(grey) - grey.astype(int)).max() <= 1
    dull = generator.integers(110, 146, (4, 5, 3)).astype(np.uint8)
    changed = drawn(augmentation, dull, seed).apply_image(dull)
    luma = np.array([0.299, 0.587, 0.114])
    assert np.abs(changed @ luma - dull @ luma).max() <= 1.5


def test_hue_turns_through_the_colour_circle():
    red = np.full((1, 1, 3), (160, 100, 100), np.uint8)
    hues = []
    for seed in range(40):
        changed = drawn(colors(hue=0.5), red, seed).apply_image(red)[0, 0] / 255
        hues.append(colorsys.rgb_to_hsv(*changed)[0])
    assert np.histogram(hues, bins=6, range=(0, 1))[0].min() >= 1
    small = [
        colorsys.rgb_to_hsv(*drawn(colors(hue=0.05), red, seed).apply_image(red)[0, 0] / 255)[0]
        for seed in range(20)
    ]
    assert max(min(hue, 1 - hue) for hue in small) < 0.08


def test_bgr_is_the_same_change_with_channels_swapped():
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3)).astype(np.uint8)
    jitter = ColorJitter(0.4, 0.4, 0.4, 0.2)
    for seed in range(5):
        rgb = drawn(RandomColor(jitter), image, seed).apply_image(image)
        swapped = np.ascontiguousarray(image[:, :, ::-1])
        bgr = drawn(RandomColor(jitter, "BGR"), swapped, seed).apply_image(swapped)
        assert np.abs(bgr[:, :, ::-1].astype(int) - rgb).max() <= 1
        assert not np.array_equal(rgb, image)


def test_grey_images_change_in_brightness_and_contrast_only():
    image = np.arange(60, dtype=np.uint8).reshape(6, 10, 1)
    jitter = ColorJitter(0.5, 0.5, 0.5, 0.5)
    changed = drawn(RandomColor(jitter, "L"), image, 1).apply_image(image)
    assert changed.shape == image.shape and not np.array_equal(changed, image)


def test_colours_leave_maps_and_points_alone():
    image, numbers = ramp(6, 8)
    transform = drawn(colors(brightness=0.5), image, 0)
    assert transform.apply_segmentation(numbers) is numbers
    points = np.ones((2, 2))
    assert transform.inverse().apply_coords(transform.apply_coords(points)) is points


def test_padding_is_not_coloured():
    image, numbers = ramp(10, 10)
    cfg = make_cfg(RESIZE="scale_jitter", SCALE_JITTER=(0.5, 0.5), COLOR_JITTER__BRIGHTNESS=0.9)
    out, segments, _ = augment(cfg, image, numbers, 3)
    assert (segments == 0).any() and (out[segments == 0] == 128).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"RESIZE": "stretch"}, "INPUT.RESIZE is 'stretch'"),
        ({"IMAGE_SIZE": (0, 4)}, "INPUT.IMAGE_SIZE"),
        ({"RESIZE": "scale_jitter", "SCALE_JITTER": (0.0, 2.0)}, "INPUT.SCALE_JITTER"),
        ({"RESIZE": "scale_jitter", "SCALE_JITTER": (2.0, 0.5)}, "INPUT.SCALE_JITTER"),
        ({"RESIZE": "scale_jitter", "CROP__ENABLED": True}, "INPUT.CROP.ENABLED"),
        ({"RESIZE": "shortest_edge", "MIN_SIZE_TRAIN": (0,)}, "INPUT.MIN_SIZE_TRAIN"),
        ({"RESIZE": "shortest_edge", "MIN_SIZE_TRAIN": ()}, "INPUT.MIN_SIZE_TRAIN"),
        (
            {"RESIZE": "shortest_edge", "MIN_SIZE_TRAIN_SAMPLING": "range"},
            "INPUT.MIN_SIZE_TRAIN_SAMPLING",
        ),
        ({"CROP__ENABLED": True, "CROP__TYPE": "round"}, "INPUT.CROP.TYPE"),
        ({"CROP__ENABLED": True, "CROP__SIZE": [1.2, 0.5]}, "INPUT.CROP.SIZE"),
        (
            {"CROP__ENABLED": True, "CROP__TYPE": "absolute", "CROP__SIZE": [0.5, 0.5]},
            "INPUT.CROP.SIZE",
        ),
        (
            {"CROP__ENABLED": True, "CROP__TYPE": "absolute_range", "CROP__SIZE": [9, 5]},
            "INPUT.CROP.SIZE",
        ),
        ({"RANDOM_FLIP": "vertical"}, "INPUT.RANDOM_FLIP"),
        ({"COLOR_JITTER__HUE": 0.7}, "INPUT.COLOR_JITTER.HUE"),
        ({"COLOR_JITTER__CONTRAST": -0.1}, "INPUT.COLOR_JITTER.CONTRAST"),
    ],
)
@pytest.mark.parametrize("is_train", [True, False])
def test_wrong_options_name_the_key(change, message, is_train):
    with pytest.raises(ConfigError, match=message):
        build_augmentations(make_cfg(**change), is_train)
