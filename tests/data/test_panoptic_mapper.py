"""The panoptic mapper: what it returns, and what it refuses."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from slotseg.config import get_cfg
from slotseg.data.images import read_image
from slotseg.data.panoptic_mapper import PanopticMapper
from slotseg.data.sampling import sample_seed
from slotseg.errors import ConfigError, DatasetError
from slotseg.panoptic_png import read_id_map, write_id_map

# Of the encodings in the wild: Cityscapes' stuff, two of its things, COCO's large ids, a crowd.
SEGMENTS = [
    {"id": 7, "category_id": 0, "isthing": False, "iscrowd": 0, "area": 300},
    {"id": 26001, "category_id": 13, "isthing": True, "iscrowd": 0, "area": 40},
    {"id": 26, "category_id": 13, "isthing": True, "iscrowd": 1, "area": 20},
    {"id": 16777215, "category_id": 11, "isthing": True, "iscrowd": 0, "area": 1},
]
COLORS = np.array([[0, 0, 0], [50, 0, 0], [100, 0, 0], [150, 0, 0], [200, 0, 0]], np.uint8)


def make_cfg(**changes: Any):
    overrides = {"IMAGE_SIZE": (16, 24), **changes}
    pairs = [item for key, value in overrides.items() for item in (f"INPUT.{key}", value)]
    return get_cfg(None, pairs)


@pytest.fixture
def entry(tmp_path: Path) -> dict[str, Any]:
    """16x24; red is 50 times (index of the segment + 1), void is black."""
    numbers = np.ones((16, 24), np.uint8)
    numbers[2:7, 4:12] = 2
    numbers[10:14, 18:23] = 3
    numbers[15, 0] = 4
    numbers[0, :3] = 0
    Image.fromarray(COLORS[numbers]).save(tmp_path / "image.png")
    ids = np.array([0, *(segment["id"] for segment in SEGMENTS)], np.int32)
    write_id_map(str(tmp_path / "map.png"), ids[numbers])
    return {
        "file_name": str(tmp_path / "image.png"),
        "image_id": "a",
        "height": 16,
        "width": 24,
        "pan_seg_file_name": str(tmp_path / "map.png"),
        "segments_info": [dict(segment) for segment in SEGMENTS],
    }


def test_output_contract_in_training(entry):
    before = json.loads(json.dumps(entry))
    mapped = PanopticMapper(make_cfg(), True)(entry)
    assert entry == before
    assert set(mapped) == {
        *("file_name", "image_id", "height", "width", "image", "segment_map"),
        *("segment_category", "segment_is_object", "segment_is_crowd"),
    }
    assert mapped["image"].dtype == torch.uint8 and mapped["image"].shape == (3, 16, 24)
    assert mapped["segment_map"].dtype == torch.int64
    assert torch.equal(mapped["segment_map"], mapped["image"][0].long() // 50 - 1)
    assert mapped["segment_map"].unique().tolist() == [-1, 0, 1, 2, 3]
    assert mapped["segment_category"].dtype == torch.int64
    assert mapped["segment_category"].tolist() == [0, 13, 13, 11]
    assert mapped["segment_is_object"].tolist() == [False, True, False, True]
    assert mapped["segment_is_crowd"].tolist() == [False, False, True, False]


def test_evaluation_keeps_what_the_evaluator_needs(entry):
    mapped = PanopticMapper(make_cfg(IMAGE_SIZE=(8, 12), RANDOM_FLIP="horizontal"), False)(entry)
    assert mapped["pan_seg_file_name"] == entry["pan_seg_file_name"]
    assert mapped["segments_info"] == SEGMENTS
    assert (mapped["height"], mapped["width"]) == (16, 24)
    assert mapped["image"].shape == (3, 8, 12) and mapped["segment_map"].shape == (8, 12)


def test_one_image_is_augmented_by_its_seed_alone(entry):
    cfg = make_cfg(RESIZE="scale_jitter", SCALE_JITTER=(0.8, 3.0), RANDOM_FLIP="horizontal")
    mapper = PanopticMapper(cfg, True)

    def sample(number: int) -> dict[str, Any]:
        with sample_seed(3, number):
            return mapper(entry)

    first = [sample(number) for number in range(8)]
    again = [sample(number) for number in reversed(range(8))][::-1]
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["segment_map"], other["segment_map"])
        assert one["image"].shape == (3, 16, 24)
        # A segment that was cropped away stays in the lists.
        assert len(one["segment_category"]) == len(SEGMENTS)
    assert len({one["segment_map"].numpy().tobytes() for one in first}) == 8
    assert any((one["segment_map"] == 3).sum() == 0 for one in first)


# Chains that move pixels without scaling, for images of 20x30.
EXACT = {
    "whole": ["INPUT.IMAGE_SIZE", (20, 30)],
    "flipped": ["INPUT.IMAGE_SIZE", (20, 30), "INPUT.RANDOM_FLIP", "horizontal"],
    "cropped": ["INPUT.RESIZE", "shortest_edge", "INPUT.MIN_SIZE_TRAIN", (20,)]
    + ["INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", [9, 13]]
    + ["INPUT.RANDOM_FLIP", "horizontal"],
    "padded": ["INPUT.RESIZE", "scale_jitter", "INPUT.SCALE_JITTER", (1.0, 1.0)]
    + ["INPUT.IMAGE_SIZE", (24, 30), "INPUT.RANDOM_FLIP", "horizontal"],
}


@pytest.mark.parametrize("chain", sorted(EXACT))
@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), count=st.integers(0, 40), void=st.floats(0, 1))
def test_every_pixel_keeps_its_segment(chain, seed, count, void, tmp_path_factory):
    """Red is the index of the segment plus one, so image and map can be compared everywhere."""
    folder = tmp_path_factory.mktemp("exact")
    generator = np.random.default_rng(seed)
    numbers = generator.integers(1, count + 1, (20, 30)) if count else np.zeros((20, 30), int)
    numbers[generator.random((20, 30)) < void] = 0
    present = np.unique(numbers[numbers > 0])
    numbers = np.searchsorted(present, numbers, side="right")  # without gaps
    ids = np.concatenate([[0], generator.choice(2**24 - 1, len(present), replace=False) + 1])
    write_id_map(str(folder / "map.png"), ids[numbers])
    red = np.dstack([numbers, 0 * numbers, 0 * numbers + 77]).astype(np.uint8)
    Image.fromarray(red).save(folder / "image.png")
    crowds, things = generator.integers(0, 2, (2, len(present)))
    entry = {
        "file_name": str(folder / "image.png"),
        "image_id": "a",
        "pan_seg_file_name": str(folder / "map.png"),
        "segments_info": [
            {"id": int(i), "category_id": n, "isthing": bool(things[n]), "iscrowd": int(crowds[n])}
            for n, i in enumerate(ids[1:])
        ],
    }
    np.random.seed(seed)
    mapped = PanopticMapper(get_cfg(None, EXACT[chain]), True)(entry)
    image, segment_map = mapped["image"].long(), mapped["segment_map"]
    size = {"cropped": (9, 13), "padded": (24, 30)}.get(chain, (20, 30))
    assert segment_map.shape == image.shape[1:] == size
    padding = image[2] == 128
    assert padding.sum() == (4 * 30 if chain == "padded" else 0)
    assert (segment_map[padding] == -1).all()
    assert torch.equal(segment_map[~padding], image[0][~padding] - 1)
    assert mapped["segment_category"].tolist() == list(range(len(present)))
    assert mapped["segment_is_crowd"].tolist() == [bool(crowd) for crowd in crowds]
    assert mapped["segment_is_object"].tolist() == [
        bool(thing and not crowd) for thing, crowd in zip(things, crowds, strict=True)
    ]


def test_without_labels(entry):
    del entry["pan_seg_file_name"], entry["segments_info"]
    for is_train in (True, False):
        assert set(PanopticMapper(make_cfg(), is_train)(entry)) == {
            *("file_name", "image_id", "height", "width", "image"),
        }


def test_nothing_but_void(entry):
    write_id_map(entry["pan_seg_file_name"], np.zeros((16, 24), np.int32))
    entry["segments_info"] = []
    mapped = PanopticMapper(make_cfg(), True)(entry)
    assert (mapped["segment_map"] == -1).all()
    for key, kind in (
        ("segment_category", torch.int64),
        ("segment_is_object", torch.bool),
        ("segment_is_crowd", torch.bool),
    ):
        assert mapped[key].shape == (0,) and mapped[key].dtype == kind


def test_formats(entry):
    bgr = PanopticMapper(make_cfg(FORMAT="BGR"), False)(entry)["image"]
    assert torch.equal(bgr.flip(0), PanopticMapper(make_cfg(), False)(entry)["image"])
    grey = PanopticMapper(make_cfg(FORMAT="L", IMAGE_SIZE=(8, 12)), False)(entry)["image"]
    assert grey.shape == (1, 8, 12)


def test_can_be_pickled_and_made_without_a_config(entry):
    """Workers are not always forked."""
    cfg = get_cfg(
        None,
        ["INPUT.RESIZE", "scale_jitter", "INPUT.RANDOM_FLIP", "horizontal"]
        + ["INPUT.COLOR_JITTER.HUE", 0.2],
    )
    assert pickle.loads(pickle.dumps(PanopticMapper(cfg, True)))(entry)["image"].shape[0] == 3
    assert PanopticMapper(True)(entry)["image"].shape == (3, 16, 24)


def refused(entry: dict[str, Any], is_train: bool = True) -> str:
    with pytest.raises(DatasetError) as info:
        PanopticMapper(make_cfg(), is_train)(entry)
    assert "\n" not in str(info.value)
    return str(info.value)


@pytest.mark.parametrize("is_train", [True, False])
def test_ids_and_lists_that_differ(entry, is_train):
    last = entry["segments_info"].pop()
    assert "map.png: segment id 16777215 (1 pixels) is not among" in refused(entry, is_train)
    entry["segments_info"] += [last, {**last, "id": 12}]
    assert "map.png: segment id 12 is listed, but no pixel" in refused(entry, is_train)
    del entry["segments_info"]
    assert "map.png: the data set dict names this PNG but has no segments_info" in refused(entry)


def test_sizes_that_differ(entry):
    write_id_map(entry["pan_seg_file_name"], np.ones((16, 20), np.int32))
    assert "map.png: the panoptic PNG is 16x20 (height x width), its image" in refused(entry)
    entry["width"] = 25
    assert "image.png: the image is 16x24 (height x width), the data set lists 16x25" in refused(
        entry
    )


def test_files_that_are_missing_or_of_the_wrong_kind(entry):
    Image.new("RGBA", (24, 16)).save(entry["pan_seg_file_name"])
    assert "map.png: a 8-bit RGBA PNG" in refused(entry)
    Path(entry["pan_seg_file_name"]).unlink()
    assert "map.png: no such panoptic PNG" in refused(entry)
    Path(entry["file_name"]).write_bytes(Path(entry["file_name"]).read_bytes()[:60])
    assert "image.png: cannot be read as an image" in refused(entry)


def test_scene_windows_are_refused():
    with pytest.raises(ConfigError, match=r"INPUT.CROP_WINDOW is for scene folders"):
        PanopticMapper(make_cfg(CROP_WINDOW=(0, 0, 8, 8)), True)


def test_real_coco_images(samples_dir):
    """COCO panoptic as published: every segment keeps its area and its colours, crowds too."""
    folder = samples_dir / "coco_panoptic_sample/sample_data"
    if not folder.is_dir():
        pytest.skip("no COCO panoptic among the samples")
    content = json.loads((folder / "panoptic_examples.json").read_text())
    number = {c["id"]: i for i, c in enumerate(content["categories"])}
    images = {image["id"]: image for image in content["images"]}
    crowds = 0
    for annotation in content["annotations"]:
        image = images[annotation["image_id"]]
        png = folder / "panoptic_examples" / annotation["file_name"]
        path = folder / "input_images" / image["file_name"]
        info = [
            {**s, "category_id": number[s["category_id"]], "isthing": True}
            for s in annotation["segments_info"]
        ]
        entry = {
            "file_name": str(path),
            "image_id": str(image["id"]),
            "height": image["height"],
            "width": image["width"],
            "pan_seg_file_name": str(png),
            "segments_info": info,
        }
        cfg = make_cfg(IMAGE_SIZE=(image["height"], image["width"]))
        mapped = PanopticMapper(cfg, False)(entry)
        segment_map = mapped["segment_map"]
        areas = torch.bincount(segment_map[segment_map >= 0], minlength=len(info))
        assert areas.tolist() == [segment["area"] for segment in info]
        assert torch.equal(segment_map == -1, torch.from_numpy(read_id_map(str(png)) == 0))
        assert np.array_equal(mapped["image"].permute(1, 2, 0), read_image(str(path)))
        crowds += int(mapped["segment_is_crowd"].sum())
    assert crowds == sum(
        segment["iscrowd"] for a in content["annotations"] for segment in a["segments_info"]
    )
    assert crowds > 0
