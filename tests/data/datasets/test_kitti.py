"""The three KITTI releases: conversion of tiny trees by hand, and trees of another release."""

from __future__ import annotations

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from PIL import Image

from slotseg.classes import class_set
from slotseg.data.datasets.kitti import (
    FIRST_VAL_IMAGE_2015,
    convert_kitti2015,
    convert_kitti_panoptic,
    convert_kitti_step,
)
from slotseg.data.datasets.native import native_faults
from slotseg.errors import DatasetError
from slotseg.panoptic_png import ids_to_rgb, read_id_map


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def save_image(path, shape):
    save(path, np.zeros((*shape, 3), np.uint8))


@pytest.fixture(autouse=True)
def datasets(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    return tmp_path


def segments_by_id(entry, name):
    names = class_set(name).names
    return {
        s["id"]: (names[s["category_id"]], s["isthing"], s["iscrowd"], s["area"])
        for s in entry["segments_info"]
    }


def faults_of(name):
    return list(native_faults(name, progress=False))


# KITTI 2015

# Road (instance numbers of stuff mean nothing), static, car 1 and 2, cars not told apart, caravan.
VALUES_2015 = np.array(
    [
        [7 * 256, 7 * 256 + 3, 4 * 256, 26 * 256],
        [26 * 256 + 1, 26 * 256 + 2, 26 * 256 + 2, 29 * 256 + 5],
    ],
    np.uint16,
)
LABELS_2015 = (VALUES_2015 // 256).astype(np.uint8)
IDS_2015 = [[7, 7, 0, 26], [26001, 26002, 26002, 0]]


def write_2015(root, name="000000_10", values=VALUES_2015, folder="training", semantic=LABELS_2015):
    save_image(root / folder / "image_2" / f"{name}.png", values.shape)
    save(root / folder / "instance" / f"{name}.png", values)
    save(root / folder / "semantic" / f"{name}.png", semantic)
    return root / folder / "instance" / f"{name}.png"


def test_2015_by_hand(datasets):
    root = datasets / "kitti2015"
    write_2015(root)
    save_image(root / "training" / "image_2" / "000000_11.png", (2, 4))  # the second frame
    convert_kitti2015(str(root), "train")
    (entry,) = DatasetCatalog.get("kitti2015_panoptic_train")
    assert entry["image_id"] == "000000_10"
    assert entry["file_name"] == str(root / "training" / "image_2" / "000000_10.png")
    np.testing.assert_array_equal(read_id_map(entry["pan_seg_file_name"]), IDS_2015)
    assert segments_by_id(entry, "kitti2015_panoptic_train") == {
        7: ("road", False, 0, 2),
        26: ("car", True, 1, 1),
        26001: ("car", True, 0, 1),
        26002: ("car", True, 0, 2),
    }
    assert faults_of("kitti2015_panoptic_train") == []


def test_2015_is_split_by_number(datasets):
    root = datasets / "kitti2015"
    for number in (0, FIRST_VAL_IMAGE_2015 - 1, FIRST_VAL_IMAGE_2015, 199):
        write_2015(root, f"{number:06d}_10")
    for split in ("train", "val"):
        convert_kitti2015(str(root), split)
    ids = {
        split: [entry["image_id"] for entry in DatasetCatalog.get(f"kitti2015_panoptic_{split}")]
        for split in ("train", "val")
    }
    assert ids == {"train": ["000000_10", "000159_10"], "val": ["000160_10", "000199_10"]}


def test_2015_with_own_folders_is_not_split_by_number(datasets):
    root = datasets / "streets_generated" / "kitti2015"
    for folder in ("training", "tuning", "validation"):
        write_2015(root, "000170_10", folder=folder)
        write_2015(root, "000001_10", folder=folder)
    for split in ("train", "tune", "val"):
        convert_kitti2015(str(root), split)
        dicts = DatasetCatalog.get(f"kitti2015_generated_{split}")
        assert [entry["image_id"] for entry in dicts] == ["000001_10", "000170_10"]
    assert "/validation/image_2/" in dicts[0]["file_name"]


@pytest.mark.parametrize(
    ("values", "semantic", "message"),
    [
        # Values below 256 are label 0, void everywhere; only the semantics tell.
        (VALUES_2015 // 256, LABELS_2015, "contradicts"),
        (LABELS_2015, LABELS_2015, "8-bit grey, expected a PNG of 16-bit grey"),
        ((VALUES_2015 + 40 * 256), LABELS_2015 + 40, "there is no label 44"),
        (VALUES_2015, LABELS_2015[:1], "contradicts"),
    ],
    ids=["label ids", "8-bit", "unknown labels", "other semantics"],
)
def test_2015_trees_of_another_release_are_told(datasets, values, semantic, message):
    label = write_2015(datasets / "kitti2015", values=values, semantic=semantic)
    with pytest.raises(DatasetError, match=message) as caught:
        convert_kitti2015(str(datasets / "kitti2015"), "train")
    assert str(caught.value).startswith(f"{label}: ")
    assert any(message in fault for fault in faults_of("kitti2015_panoptic_train"))


def test_2015_files_of_another_name_are_told(datasets):
    write_2015(datasets / "kitti2015", "frankfurt_000000")
    with pytest.raises(DatasetError, match=r"not named as KITTI 2015 does"):
        convert_kitti2015(str(datasets / "kitti2015"), "train")
    (found,) = faults_of("kitti2015_panoptic_val")
    assert "not named as KITTI 2015 does" in found


# KITTI panoptic (Freiburg)

IDS_PANOPTIC = np.array([[7, 4, 24, 33], [11, 26001, 26257, 30002]], np.int32)


def write_panoptic(root, name="2011_09_26_drive_0001_0000000005", ids=IDS_PANOPTIC):
    save_image(root / "validation" / "images" / f"{name}.png", ids.shape)
    save(root / "validation" / "annotations" / f"{name}.png", ids_to_rgb(ids))
    return root / "validation" / "annotations" / f"{name}.png"


def test_panoptic_by_hand(datasets):
    root = datasets / "kitti_panoptic"
    write_panoptic(root)
    convert_kitti_panoptic(str(root), "val")
    (entry,) = DatasetCatalog.get("kitti_panoptic_val")
    assert entry["file_name"].endswith("validation/images/2011_09_26_drive_0001_0000000005.png")
    # Classes that are not evaluated (static, trailer) are void.
    np.testing.assert_array_equal(
        read_id_map(entry["pan_seg_file_name"]), [[7, 0, 24, 33], [11, 26001, 26257, 0]]
    )
    assert segments_by_id(entry, "kitti_panoptic_val") == {
        7: ("road", False, 0, 1),
        11: ("building", False, 0, 1),
        24: ("person", True, 1, 1),
        33: ("bicycle", True, 1, 1),
        26001: ("car", True, 0, 1),
        26257: ("car", True, 0, 1),
    }
    assert faults_of("kitti_panoptic_val") == []


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.array([[13001]]), "id 13001: instance 1 of label 13, which is stuff"),
        (np.array([[255]]), "id 255: Cityscapes has no label 255"),
    ],
    ids=["training ids", "void of training ids"],
)
def test_panoptic_trees_of_another_release_are_told(datasets, ids, message):
    label = write_panoptic(datasets / "kitti_panoptic", ids=ids)
    with pytest.raises(DatasetError, match=message):
        convert_kitti_panoptic(str(datasets / "kitti_panoptic"), "val")
    (found,) = faults_of("kitti_panoptic_val")
    assert found.startswith(f"{label}: {message}")


def test_panoptic_annotations_in_grey_are_told(datasets):
    label = write_panoptic(datasets / "kitti_panoptic")
    save(label, IDS_PANOPTIC.astype(np.uint16))
    with pytest.raises(DatasetError, match="16-bit"):
        convert_kitti_panoptic(str(datasets / "kitti_panoptic"), "val")


def test_unknown_splits_are_told(datasets):
    with pytest.raises(DatasetError, match="no split 'test'; choose one of train, tune, val"):
        convert_kitti_panoptic(str(datasets), "test")


# KITTI-STEP

# (training id, instance): road, void, person 1, persons, car 300, rider 7 (stuff here).
STEP = [[(0, 0), (255, 0), (11, 1), (11, 0)], [(13, 300), (13, 300), (12, 7), (12, 0)]]
IDS_STEP = [[7, 0, 24001, 24], [26300, 26300, 25, 25]]


def step_rgb(pixels):
    return np.array([[(t, n // 256, n % 256) for t, n in row] for row in pixels], np.uint8)


def write_step(root, sequence="0002", frame="000000", pixels=STEP, split="val"):
    rgb = step_rgb(pixels)
    save_image(root / "images" / split / sequence / f"{frame}.png", rgb.shape[:2])
    save(root / "panoptic_maps" / split / sequence / f"{frame}.png", rgb)
    return root / "panoptic_maps" / split / sequence / f"{frame}.png"


def test_step_by_hand(datasets):
    root = datasets / "kitti_step"
    write_step(root)
    write_step(root, sequence="0006", pixels=[[(10, 0)]])
    convert_kitti_step(str(root), "val", num_workers=1)
    first, second = DatasetCatalog.get("kitti_step_panoptic_val")
    # Frame numbers recur in every sequence.
    assert (first["image_id"], second["image_id"]) == ("0002_000000", "0006_000000")
    assert first["pan_seg_file_name"] == str(root / "panoptic_val" / "0002" / "000000.png")
    assert second["file_name"] == str(root / "images" / "val" / "0006" / "000000.png")
    np.testing.assert_array_equal(read_id_map(first["pan_seg_file_name"]), IDS_STEP)
    assert segments_by_id(first, "kitti_step_panoptic_val") == {
        7: ("road", False, 0, 1),
        24: ("person", True, 1, 1),
        24001: ("person", True, 0, 1),
        25: ("rider", False, 0, 2),
        26300: ("car", True, 0, 2),
    }
    assert class_set("kitti_step_panoptic_val").things == (11, 13)
    assert faults_of("kitti_step_panoptic_val") == []


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        ([[(26, 1)]], r"R = 26 \(instance 1\): KITTI-STEP has training ids 0 to 18 and 255"),
        ([[(13, 1000)]], "instance 1000 of label 26: numbers from 1000 on"),
    ],
    ids=["label ids", "many instances"],
)
def test_step_trees_of_another_release_are_told(datasets, pixels, message):
    label = write_step(datasets / "kitti_step", pixels=pixels)
    with pytest.raises(DatasetError, match=message) as caught:
        convert_kitti_step(str(datasets / "kitti_step"), "val")
    assert faults_of("kitti_step_panoptic_val") == [str(caught.value)]
    assert str(caught.value).startswith(f"{label}: ")


@pytest.mark.parametrize("convert", [convert_kitti2015, convert_kitti_panoptic, convert_kitti_step])
def test_missing_trees_are_told(datasets, convert):
    with pytest.raises(DatasetError, match="no label files of KITTI.* here; datasets/README.md"):
        convert(str(datasets / "kitti"), "train")
