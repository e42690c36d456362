"""The scene mapper: crop, resize, flip, and what it refuses."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from slotseg.config import get_cfg
from slotseg.data import SceneMapper
from slotseg.errors import ConfigError, DatasetError


def make_cfg(**changes: Any):
    overrides = {"CROP_WINDOW": (), "IMAGE_SIZE": (16, 16), "RANDOM_FLIP": "none", **changes}
    pairs = [item for key, value in overrides.items() for item in (f"INPUT.{key}", value)]
    return get_cfg(None, pairs)


def save_scene(
    folder: Path, image: np.ndarray, mask: np.ndarray | None, num_objects: int = 2
) -> dict[str, Any]:
    Image.fromarray(image).save(folder / "image.png")
    entry = {
        "file_name": str(folder / "image.png"),
        "image_id": "a",
        "height": image.shape[0],
        "width": image.shape[1],
    }
    if mask is not None:
        Image.fromarray(mask).save(folder / "mask.png")
        entry |= {
            "mask_file_name": str(folder / "mask.png"),
            "num_objects": num_objects,
            "objects": [{}] * num_objects,
        }
    return entry


@pytest.fixture
def scene(tmp_path: Path) -> dict[str, Any]:
    """16x16: left half black background, right half red, its lower part object 2, a void pixel."""
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, 8:, 0] = 200
    mask = np.zeros((16, 16), np.uint8)
    mask[:, 8:] = 1
    mask[8:, 8:] = 2
    mask[0, 0] = 255
    return save_scene(tmp_path, image, mask)


def test_output_contract(scene: dict[str, Any]) -> None:
    before = dict(scene)
    mapped = SceneMapper(make_cfg(), True)(scene)
    assert scene == before
    assert set(mapped) == {
        *("file_name", "image_id", "height", "width"),
        *("image", "segment_map", "segment_is_object"),
    }
    assert (mapped["height"], mapped["width"]) == (16, 16)
    assert mapped["image"].dtype == torch.uint8 and mapped["image"].shape == (3, 16, 16)
    assert mapped["image"][:, 3, 12].tolist() == [200, 0, 0]
    assert mapped["segment_map"].dtype == torch.int64
    assert mapped["segment_map"].unique().tolist() == [-1, 0, 1, 2]
    assert mapped["segment_map"][0, 0] == -1 and mapped["segment_map"][9, 9] == 2
    assert mapped["segment_is_object"].tolist() == [False, True, True]


def test_formats(scene: dict[str, Any]) -> None:
    assert SceneMapper(make_cfg(FORMAT="BGR"), False)(scene)["image"][:, 3, 12].tolist() == [
        *(0, 0, 200)
    ]
    assert SceneMapper(make_cfg(FORMAT="L"), False)(scene)["image"].shape == (1, 16, 16)


def test_without_masks(tmp_path: Path) -> None:
    entry = save_scene(tmp_path, np.zeros((16, 16, 3), np.uint8), None)
    mapped = SceneMapper(make_cfg(), True)(entry)
    assert "segment_map" not in mapped and "segment_is_object" not in mapped


def test_crop_window_takes_exactly_these_pixels(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:24, :32].astype(np.uint8)
    image = np.dstack([rows, columns, rows])
    entry = save_scene(tmp_path, image, np.minimum(rows, 200), num_objects=200)
    mapped = SceneMapper(make_cfg(CROP_WINDOW=(3, 5, 19, 21)), False)(entry)
    assert np.array_equal(mapped["image"].numpy(), image[3:19, 5:21].transpose(2, 0, 1))
    assert np.array_equal(mapped["segment_map"].numpy(), rows[3:19, 5:21])
    assert len(mapped["segment_is_object"]) == 201


def test_downscaling_averages_images_and_picks_mask_values(tmp_path: Path) -> None:
    """One-pixel stripes become an even grey (antialias); masks keep only values they had."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, ::2] = 200
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 32:] = 2
    mapped = SceneMapper(make_cfg(), False)(save_scene(tmp_path, image, mask))
    inner = mapped["image"][:, :, 2:-2].float()
    assert (inner - 100).abs().max() <= 8
    assert mapped["segment_map"].unique().tolist() == [0, 2]
    assert (mapped["segment_map"][:, 8:] == 2).all() and (mapped["segment_map"][:, :8] == 0).all()


def test_image_size_is_height_width(scene: dict[str, Any]) -> None:
    mapped = SceneMapper(make_cfg(IMAGE_SIZE=(8, 12)), False)(scene)
    assert mapped["image"].shape == (3, 8, 12) and mapped["segment_map"].shape == (8, 12)
    assert (mapped["height"], mapped["width"]) == (8, 12)


def test_flip_moves_image_and_mask_together(scene: dict[str, Any]) -> None:
    mapper = SceneMapper(make_cfg(RANDOM_FLIP="horizontal"), True)
    plain = SceneMapper(make_cfg(), True)(scene)
    flipped = 0
    for seed in range(20):
        np.random.seed(seed)
        mapped = mapper(scene)
        is_flipped = bool((mapped["image"][0, 3, :8] == 200).all())
        flipped += is_flipped
        dims = [-1] if is_flipped else []
        assert torch.equal(mapped["image"], plain["image"].flip(dims))
        assert torch.equal(mapped["segment_map"], plain["segment_map"].flip(dims))
        np.random.seed(seed)
        assert torch.equal(mapper(scene)["image"], mapped["image"])
    assert 4 <= flipped <= 16


def test_no_flip_in_evaluation(scene: dict[str, Any]) -> None:
    mapper = SceneMapper(make_cfg(RANDOM_FLIP="horizontal"), False)
    plain = mapper(scene)["image"]
    state = np.random.get_state()[1].copy()
    assert all(torch.equal(mapper(scene)["image"], plain) for _ in range(8))
    assert np.array_equal(np.random.get_state()[1], state)


def test_can_be_pickled(scene: dict[str, Any]) -> None:
    """Workers are not always forked."""
    mapper = SceneMapper(make_cfg(RANDOM_FLIP="horizontal", CROP_WINDOW=(0, 0, 8, 8)), True)
    assert pickle.loads(pickle.dumps(mapper))(scene)["image"].shape == (3, 16, 16)


def test_without_a_config(scene: dict[str, Any]) -> None:
    assert SceneMapper(True, image_size=(4, 4))(scene)["image"].shape == (3, 4, 4)


def test_window_outside_of_the_image(scene: dict[str, Any]) -> None:
    mapper = SceneMapper(make_cfg(CROP_WINDOW=(29, 64, 221, 256)), True)
    with pytest.raises(DatasetError, match=r"image.png: INPUT.CROP_WINDOW .* 16x16") as info:
        mapper(scene)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"CROP_WINDOW": (1, 2, 3)}, "INPUT.CROP_WINDOW"),
        ({"CROP_WINDOW": (5, 0, 5, 8)}, "INPUT.CROP_WINDOW"),
        ({"CROP_WINDOW": (-1, 0, 5, 8)}, "INPUT.CROP_WINDOW"),
        ({"CROP_WINDOW": (0.0, 0, 5, 8)}, "INPUT.CROP_WINDOW"),
        ({"IMAGE_SIZE": (128,)}, "INPUT.IMAGE_SIZE"),
        ({"IMAGE_SIZE": (128, 0)}, "INPUT.IMAGE_SIZE"),
        ({"RANDOM_FLIP": "vertical"}, "INPUT.RANDOM_FLIP"),
        ({"FORMAT": "HSV"}, "INPUT.FORMAT"),
    ],
)
@pytest.mark.parametrize("is_train", [True, False])
def test_wrong_options_name_the_key(change: dict, message: str, is_train: bool) -> None:
    with pytest.raises(ConfigError, match=message):
        SceneMapper(make_cfg(**change), is_train)


def test_mask_and_image_of_different_size(scene: dict[str, Any]) -> None:
    Image.new("L", (16, 12)).save(scene["mask_file_name"])
    with pytest.raises(DatasetError, match="mask.png: the mask is 12x16 .* is 16x16"):
        SceneMapper(make_cfg(), True)(scene)


def test_image_of_another_size_than_listed(scene: dict[str, Any]) -> None:
    scene["height"] = 128
    with pytest.raises(DatasetError, match="image.png: the image is 16x16 .* lists 128x16"):
        SceneMapper(make_cfg(), True)(scene)


def test_more_objects_in_the_mask_than_listed(scene: dict[str, Any]) -> None:
    scene["num_objects"] = 1
    with pytest.raises(DatasetError, match="mask.png: the mask holds object 2, .* only 1"):
        SceneMapper(make_cfg(), True)(scene)


def test_empty_masks_are_warned_of_but_not_in_a_flood(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    zeros = np.zeros((16, 16), np.uint8)
    entry = save_scene(tmp_path, np.zeros((16, 16, 3), np.uint8), zeros)
    mapper = SceneMapper(make_cfg(), True)
    with caplog.at_level(logging.WARNING, logger="slotseg.data.mapper"):
        for _ in range(25):
            mapper(entry)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "image.png: no object is left" in messages[0] and "seen 10 times" in messages[1]


def test_scenes_without_objects_are_mapped(tmp_path: Path) -> None:
    zeros = np.zeros((16, 16), np.uint8)
    entry = save_scene(tmp_path, np.zeros((16, 16, 3), np.uint8), zeros, num_objects=0)
    mapped = SceneMapper(make_cfg(), True)(entry)
    assert mapped["segment_is_object"].tolist() == [False]
    assert (mapped["segment_map"] == 0).all()


def test_real_clevr_scene(samples_dir: Path, tmp_path: Path) -> None:
    """Two scenes of CLEVR with masks at the usual crop: every object keeps its place and area."""
    folder = samples_dir / "clevr_with_mask_sample/sample"
    if not folder.is_dir():
        pytest.skip("no CLEVR with masks among the samples")
    for scene, num_objects in ((0, 7), (1, 8)):
        image = np.asarray(Image.open(folder / f"CLEVR_image_{scene}.png").convert("RGB"))
        entities = np.stack(
            [np.asarray(Image.open(folder / f"CLEVR_mask_{scene}_{i}.png")) for i in range(11)]
        )
        assert image.shape == (240, 320, 3) and (entities > 0).sum(0).max() == 1
        mask = (np.arange(11)[:, None, None] * (entities > 0)).sum(0).astype(np.uint8)
        entry = save_scene(tmp_path, image, mask, num_objects)
        cfg = make_cfg(CROP_WINDOW=(29, 64, 221, 256), IMAGE_SIZE=(128, 128))
        mapped = SceneMapper(cfg, False)(entry)
        segments = mapped["segment_map"].numpy()
        assert segments.shape == (128, 128) and len(mapped["segment_is_object"]) == num_objects + 1
        for number in range(num_objects + 1):
            window = mask[29:221, 64:256] == number
            small = segments == number
            # Scaled by 2/3 on both sides; nearest neighbour moves an edge by half a pixel.
            assert small.sum() == pytest.approx(window.sum() * 4 / 9, rel=0.1, abs=6)
            if window.any():
                centre = np.argwhere(window).mean(0) * 2 / 3
                assert np.allclose(np.argwhere(small).mean(0), centre, atol=0.6)
        mean = image[29:221, 64:256].mean((0, 1))
        assert np.allclose(mapped["image"].float().mean((1, 2)), mean, atol=0.5)
