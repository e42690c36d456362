"""Conversion to COCO panoptic: killed at any moment it goes on, and it is never half there."""

from __future__ import annotations

import functools
import json
import os
import shutil

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from slotseg.classes import Category
from slotseg.data.datasets import conversion
from slotseg.data.datasets.conversion import convert
from slotseg.data.datasets.native import (
    LabelFile,
    NativeSplit,
    Segment,
    find_segments,
    image_size,
    native_faults,
    read_label_png,
    register_native,
)
from slotseg.errors import DatasetError
from slotseg.panoptic_png import read_id_map

CATEGORIES = (Category(1, "ground", False, (9, 9, 9)), Category(2, "ball", True, (200, 0, 0)))


def describe(value):
    if value > 9:
        raise ValueError(f"value {value}: too high")
    return None if value == 0 else Segment(value, 1 if value == 1 else 2)


def read(file):
    return find_segments(read_label_png(file.label, 8, "grey"), describe)


def files_in(root):
    names = sorted(path.stem for path in (root / "labels").glob("*.png"))
    return [
        LabelFile(
            name,
            str(root / "images" / f"{name}.png"),
            str(root / "labels" / f"{name}.png"),
            f"{name}.png",
            f"folder/{name}.png",
        )
        for name in names
    ]


def write_pair(root, name, labels):
    for folder in ("images", "labels"):
        (root / folder).mkdir(exist_ok=True)
    Image.fromarray(np.zeros((*labels.shape, 3), np.uint8)).save(root / "images" / f"{name}.png")
    Image.fromarray(labels).save(root / "labels" / f"{name}.png")


@pytest.fixture
def root(tmp_path):
    for number in range(3):
        write_pair(tmp_path, f"{number}", np.array([[0, 1], [2, number + 2]], np.uint8))
    return tmp_path


@pytest.fixture
def split(root):
    return NativeSplit(
        title="test",
        categories=CATEGORIES,
        panoptic_json=str(root / "panoptic.json"),
        panoptic_root=str(root / "panoptic"),
        files=functools.partial(files_in, root),
        read=read,
    )


def content_of(split):
    with open(split.panoptic_json) as stream:
        return json.load(stream)


def is_whole(root, split):
    content = content_of(split)
    assert [image["id"] for image in content["images"]] == ["0", "1", "2"]
    for number, entry in enumerate(content["annotations"]):
        ids = read_id_map(os.path.join(split.panoptic_root, entry["file_name"]))
        np.testing.assert_array_equal(ids, [[0, 1], [2, number + 2]])
    assert [path.name for path in root.rglob("*") if ".partial" in path.name] == []
    assert not (root / "panoptic.records").exists()
    return True


@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_whole_set_is_written(root, split, num_workers):
    convert(split, num_workers)
    assert is_whole(root, split)
    assert content_of(split)["categories"] == [
        {"id": 1, "name": "ground", "isthing": 0, "color": [9, 9, 9]},
        {"id": 2, "name": "ball", "isthing": 1, "color": [200, 0, 0]},
    ]
    assert content_of(split)["annotations"][0] == {
        "image_id": "0",
        "file_name": "folder/0.png",
        "segments_info": [
            {"id": 1, "category_id": 1, "area": 1, "bbox": [1, 0, 1, 1], "iscrowd": 0},
            {"id": 2, "category_id": 2, "area": 2, "bbox": [0, 1, 2, 1], "iscrowd": 0},
        ],
    }


def test_what_is_up_to_date_is_left_alone(root, split, monkeypatch):
    convert(split)
    monkeypatch.setattr(conversion, "_convert_files", None)
    convert(split)
    assert is_whole(root, split)


def test_newer_labels_are_converted_again(root, split):
    convert(split)
    write_pair(root, "1", np.array([[0, 1], [2, 9]], np.uint8))
    later = os.path.getmtime(split.panoptic_json) + 10
    os.utime(root / "labels" / "1.png", (later, later))
    # Its record is as old as the clock; the label must not look newer than that for ever.
    with pytest.raises(DatasetError, match="changed while it was converted"):
        convert(split)
    os.utime(root / "labels" / "1.png")
    convert(split)
    assert content_of(split)["annotations"][1]["segments_info"][-1]["id"] == 9


def test_added_and_removed_images_are_noticed(root, split):
    convert(split)
    write_pair(root, "3", np.array([[1, 1]], np.uint8))
    (root / "labels" / "0.png").unlink()
    convert(split)
    assert [image["id"] for image in content_of(split)["images"]] == ["1", "2", "3"]
    assert not os.path.exists(os.path.join(split.panoptic_root, "folder", "0.png"))


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", range(1, 17))
def test_killed_at_any_moment_it_goes_on(root, split, moment, monkeypatch):
    """Dies before the ``moment``-th change of the disk, then runs again."""
    changes = 0

    def count(function, *arguments, **options):
        nonlocal changes
        changes += 1
        if changes == moment:
            raise Killed
        return function(*arguments, **options)

    with monkeypatch.context() as patch:
        for module, name in (
            (conversion, "write_id_map"),
            (conversion, "write_atomically"),
            (os, "replace"),
            (shutil, "rmtree"),
        ):
            patch.setattr(module, name, functools.partial(count, getattr(module, name)))
        with pytest.raises(Killed):
            convert(split)
            raise AssertionError("nothing to interrupt any more")
    if os.path.exists(split.panoptic_json):  # whoever sees it sees a complete set
        assert sorted(os.listdir(root / "panoptic" / "folder")) == ["0.png", "1.png", "2.png"]
        assert len(content_of(split)["images"]) == 3
    convert(split)
    assert is_whole(root, split)


def test_a_finished_image_is_not_converted_twice(root, split, monkeypatch):
    broken = root / "labels" / "2.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:40])
    with pytest.raises(DatasetError, match="2.png"):
        convert(split)
    assert not os.path.exists(split.panoptic_json)
    broken.write_bytes(whole)
    converted = []
    write = conversion.write_id_map
    monkeypatch.setattr(
        conversion, "write_id_map", lambda path, ids: (converted.append(path), write(path, ids))
    )
    convert(split)
    assert [os.path.basename(path) for path in converted] == ["2.png"]
    assert is_whole(root, split)


def test_foreign_files_are_never_deleted(root, split):
    (root / "panoptic").mkdir()
    (root / "panoptic" / "notes.txt").write_text("mine")
    with pytest.raises(DatasetError, match=r"notes.txt: not of a converted set; move"):
        convert(split)
    assert (root / "panoptic" / "notes.txt").read_text() == "mine"


def test_errors_count_the_faults_of_the_file(root, split):
    write_pair(root, "1", np.array([[10, 11], [12, 1]], np.uint8))
    with pytest.raises(DatasetError, match=r"1.png: value 10: too high \(and 2 more; tools/check"):
        convert(split)


def test_errors_of_worker_processes_arrive(root, split):
    write_pair(root, "1", np.array([[10]], np.uint8))
    with pytest.raises(DatasetError, match="1.png: value 10: too high$"):
        convert(split, 2)


def test_a_set_without_a_tree_has_no_native_faults():
    assert list(native_faults("never registered")) == []


def test_a_name_that_is_taken_is_left_alone(split):
    name = "conversion_test_set"
    DatasetCatalog.register(name, lambda: ["mine"])
    try:
        register_native(name, lambda root: split, "root", "root/images", "make it")
        assert DatasetCatalog.get(name) == ["mine"]
        assert list(native_faults(name)) == []
    finally:
        DatasetCatalog.remove(name)


@given(keys=arrays.arrays(np.int64, (5, 7), elements=st.integers(0, 9) | st.just(2**20)))
def test_segments_against_counting_by_hand(keys):
    def merged(value):
        return None if value == 0 else Segment(value // 2 + 1, 2, value > 4)

    found = find_segments(keys, lambda value: merged(value) if value != 5 else merged(4))
    expected = np.where(keys == 0, 0, keys // 2 + 1)
    np.testing.assert_array_equal(found.ids, expected)
    assert found.ids.dtype == np.int32
    assert found.faults == []
    assert [entry["id"] for entry in found.info] == sorted(set(expected[expected > 0].tolist()))
    for entry in found.info:
        rows, columns = np.nonzero(expected == entry["id"])
        assert entry["area"] == len(rows)
        assert entry["bbox"] == [
            columns.min(),
            rows.min(),
            columns.max() - columns.min() + 1,
            rows.max() - rows.min() + 1,
        ]


def test_one_segment_in_two_ways_is_a_fault():
    found = find_segments(np.array([[1, 2]]), lambda value: Segment(5, value))
    assert found.faults == ["segment 5 is described in two ways; the file is damaged"]


def test_label_files_of_another_form_are_told(tmp_path):
    path = tmp_path / "label.png"
    with pytest.raises(DatasetError, match="no such file"):
        read_label_png(str(path), 8, "grey")
    for array, message in (
        (np.zeros((2, 2), np.uint16), "16-bit grey, expected a PNG of 8-bit grey"),
        (np.zeros((2, 2, 3), np.uint8), "8-bit RGB, expected a PNG of 8-bit grey"),
        (np.zeros((2, 2, 4), np.uint8), "8-bit RGBA, expected a PNG of 8-bit grey"),
    ):
        Image.fromarray(array).save(path)
        with pytest.raises(DatasetError, match=message):
            read_label_png(str(path), 8, "grey")
    Image.fromarray(np.zeros((2, 2), np.uint8)).convert("P").save(path)
    with pytest.raises(DatasetError, match="8-bit palette, expected a PNG of 8-bit grey"):
        read_label_png(str(path), 8, "grey")
    path.write_text("text, not a picture, but long enough")
    with pytest.raises(DatasetError, match="not a PNG file"):
        read_label_png(str(path), 8, "grey")
    with pytest.raises(DatasetError, match="not an image file"):
        image_size(str(path))


@pytest.mark.parametrize("kept", [20, 40, 60, -20])
def test_label_files_that_are_cut_short_are_told(tmp_path, kept):
    path = tmp_path / "label.png"
    values = np.random.default_rng(0).integers(0, 2**16, (9, 9)).astype(np.uint16)
    Image.fromarray(values).save(path)
    np.testing.assert_array_equal(read_label_png(str(path), 16, "grey"), values)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DatasetError) as caught:
        read_label_png(str(path), 16, "grey")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
