"""Strong colours: how often, how far, and for whom."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from PIL import Image

from slotseg.config import get_cfg
from slotseg.data import PanopticMapper, SceneMapper
from slotseg.data.augmentation import build_augmentations
from slotseg.data.colors import (
    BlurTransform,
    RandomBlur,
    RandomColor,
    RandomGrayscale,
    color_augmentation,
    strong_augmentation,
)
from slotseg.errors import ConfigError

LUMA = np.array([0.299, 0.587, 0.114])


def make_cfg(**changes):
    pairs = [item for key, value in changes.items() for item in (f"INPUT.{key}", value)]
    return get_cfg(None, [p.replace("__", ".") if isinstance(p, str) else p for p in pairs])


def picture(channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (24, 20, channels), dtype=np.uint8)


def changes(augmentation: T.Augmentation, image: np.ndarray, times: int = 300) -> int:
    np.random.seed(0)
    drawn = [augmentation.get_transform(image) for _ in range(times)]
    return sum(not isinstance(transform, T.NoOpTransform) for transform in drawn)


def test_greyscale_is_the_luma_of_each_pixel():
    image = picture()
    grey = RandomGrayscale(1.0).get_transform(image).apply_image(image)
    assert (grey == grey[:, :, :1]).all()
    assert np.abs(grey[:, :, 0] - image @ LUMA).max() <= 1
    swapped = np.ascontiguousarray(image[:, :, ::-1])
    assert (RandomGrayscale(1.0, "BGR").get_transform(image).apply_image(swapped) == grey).all()
    assert 40 <= changes(RandomGrayscale(0.2), image) <= 80


@pytest.mark.parametrize("channels", [1, 3])
def test_a_blur_is_gaussian_and_leaves_maps_and_points_alone(channels):
    image = picture(channels)
    transform = BlurTransform(1.5)
    blurred = transform.apply_image(image)
    assert blurred.shape == image.shape and blurred.dtype == np.uint8
    kernel = np.exp(-(np.arange(-10, 11) ** 2) / (2 * 1.5**2))
    kernel /= kernel.sum()
    padded = np.pad(image.astype(float), ((10, 10), (10, 10), (0, 0)), mode="reflect")
    exact = np.apply_along_axis(np.convolve, 0, padded, kernel, mode="valid")
    exact = np.apply_along_axis(np.convolve, 1, exact, kernel, mode="valid")
    assert np.abs(blurred - exact).max() < 2
    numbers, points = np.arange(6).reshape(2, 3), np.array([[1.5, 2.5]])
    assert transform.apply_segmentation(numbers) is numbers
    assert transform.apply_coords(points) is points
    assert isinstance(transform.inverse(), T.NoOpTransform)


def test_blurs_come_as_often_and_as_strong_as_asked_for():
    blur = RandomBlur(0.5, (0.5, 2.0))
    assert 120 <= changes(blur, picture()) <= 180
    np.random.seed(0)
    drawn = [RandomBlur(1.0, (0.5, 2.0)).get_transform(picture()).sigma for _ in range(200)]
    assert 0.5 <= min(drawn) < 0.6 and 1.9 < max(drawn) <= 2.0


def test_the_strong_chain_is_what_the_config_says():
    color, grey, blur = strong_augmentation(make_cfg())
    assert isinstance(color, T.RandomApply) and color.prob == 0.8
    assert color.aug.jitter.hue == 0.25
    assert isinstance(grey, RandomGrayscale) and grey.probability == 0.2
    assert isinstance(blur, RandomBlur) and (blur.probability, blur.sigma) == (0.5, (0.1, 2.0))
    assert not strong_augmentation(
        make_cfg(STRONG__COLOR_PROBABILITY=0.0, STRONG__GRAYSCALE=0.0, STRONG__BLUR=0.0)
    )
    # Grey images have no colours to lose.
    assert len(strong_augmentation(make_cfg(FORMAT="L"))) == 2


@pytest.mark.parametrize("image_format", ["RGB", "BGR", "L"])
def test_the_strong_chain_runs_on_every_format(image_format):
    image = picture(1 if image_format == "L" else 3)
    chain = T.AugmentationList(strong_augmentation(make_cfg(FORMAT=image_format)))
    np.random.seed(1)
    results = []
    for _ in range(12):
        inputs = T.AugInput(image.copy())
        chain(inputs)
        assert inputs.image.shape == image.shape and inputs.image.dtype == np.uint8
        results.append(inputs.image)
    assert len({result.tobytes() for result in results}) > 8


def test_labelled_images_get_strong_colours_only_on_request():
    assert color_augmentation(make_cfg()) == []
    (plain,) = color_augmentation(make_cfg(COLOR_JITTER__BRIGHTNESS=0.3))
    assert isinstance(plain, RandomColor)
    strong = color_augmentation(make_cfg(COLOR_JITTER__BRIGHTNESS=0.3, STRONG__LABELED=True))
    assert [type(part) for part in strong] == [T.RandomApply, RandomGrayscale, RandomBlur]
    assert strong[0].aug.jitter.brightness == 0.5


@pytest.mark.parametrize("mapper", [PanopticMapper, SceneMapper])
def test_both_mappers_change_colours_strongly_on_request(mapper, tmp_path):
    path = str(tmp_path / "image.png")
    Image.fromarray(picture()).save(path)
    entry = {"file_name": path, "image_id": "image"}
    size = {"IMAGE_SIZE": (24, 20)}
    np.random.seed(0)
    plain = mapper(make_cfg(**size), True)(entry)["image"]
    assert np.array_equal(plain.numpy().transpose(1, 2, 0), picture())
    loud = mapper(make_cfg(**size, STRONG__LABELED=True), True)
    assert sum(not torch.equal(loud(entry)["image"], plain) for _ in range(20)) > 12
    test = mapper(make_cfg(**size, STRONG__LABELED=True), False)
    assert all(torch.equal(test(entry)["image"], plain) for _ in range(5))


def test_a_chain_without_colours_has_the_same_geometry_left():
    cfg = make_cfg(STRONG__LABELED=True, RANDOM_FLIP="horizontal", RESIZE="scale_jitter")
    whole = [type(part) for part in build_augmentations(cfg, is_train=True)]
    plain = [type(part) for part in build_augmentations(cfg, is_train=True, colors=False)]
    colors = [T.RandomApply, RandomGrayscale, RandomBlur]
    assert [kind for kind in whole if kind not in colors] == plain and len(whole) == len(plain) + 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"STRONG__HUE": 0.7}, "INPUT.STRONG.HUE is 0.7"),
        ({"STRONG__BRIGHTNESS": -0.1}, "INPUT.STRONG.BRIGHTNESS is -0.1"),
        ({"COLOR_JITTER__HUE": 0.7}, "INPUT.COLOR_JITTER.HUE is 0.7"),
        ({"STRONG__GRAYSCALE": 1.5}, "INPUT.STRONG.GRAYSCALE is 1.5, expected a probability"),
        ({"STRONG__BLUR": -1.0}, "INPUT.STRONG.BLUR is -1.0"),
        ({"STRONG__COLOR_PROBABILITY": 2.0}, "INPUT.STRONG.COLOR_PROBABILITY is 2.0"),
        ({"STRONG__BLUR_SIGMA": (2.0, 1.0)}, "INPUT.STRONG.BLUR_SIGMA is"),
        ({"STRONG__BLUR_SIGMA": (0.0, 1.0)}, "INPUT.STRONG.BLUR_SIGMA is"),
        ({"STRONG__BLUR_SIGMA": (1.0,)}, "INPUT.STRONG.BLUR_SIGMA is"),
    ],
)
def test_wrong_values_name_the_key(change, message):
    """Also where strong colours are for nobody yet."""
    with pytest.raises(ConfigError, match=message):
        color_augmentation(make_cfg(**change))


def test_blurring_is_opencvs():
    image = picture()
    assert np.array_equal(
        BlurTransform(0.8).apply_image(image), cv2.GaussianBlur(image, (0, 0), 0.8)
    )
