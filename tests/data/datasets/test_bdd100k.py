"""BDD100K: bitmasks with 40 and with 19 classes by hand, and damaged trees."""

from __future__ import annotations

import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from slotseg.classes import class_set
from slotseg.data.datasets import bdd100k, cityscapes
from slotseg.data.datasets.bdd100k import convert_bdd100k
from slotseg.data.datasets.native import native_faults
from slotseg.errors import DatasetError
from slotseg.panoptic_png import read_id_map

TRUNCATED, OCCLUDED, CROWD, IGNORE = 8, 4, 2, 1
# (class, attributes, instance)
PIXELS = [
    # Two parts of the road with a number each; nothing; a street light, which Cityscapes lacks.
    [(7, 0, 1), (7, OCCLUDED, 2), (0, 0, 0), (22, 0, 22)],
    # Two cars, one with a number beyond one byte; a crowd of persons; an ignored person.
    [(35, 0, 31), (35, TRUNCATED | OCCLUDED, 300), (31, CROWD, 32), (31, IGNORE, 33)],
    # A trailer; ignored sky; a truck without a number.
    [(38, 0, 34), (30, IGNORE, 30), (40, 0, 0), (7, CROWD, 3)],
]
IDS_40 = [
    [7, 7, 0, 22],
    [35 + 256 * 31, 35 + 256 * 300, 31 + 256 * 32, 0],
    [38 + 256 * 34, 0, 40, 7],
]
IDS_19 = [
    [7, 7, 0, 0],
    [26 + 256 * 31, 26 + 256 * 300, 24 + 256 * 32, 0],
    [0, 0, 27, 7],
]


def rgba(pixels):
    rows = [[(r, g, n // 256, n % 256) for r, g, n in row] for row in pixels]
    return np.array(rows, np.uint8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write(root, name="a", pixels=PIXELS, split="val"):
    bitmask = rgba(pixels)
    image = np.zeros((*bitmask.shape[:2], 3), np.uint8)
    save(root / "images" / "10k" / split / f"{name}.jpg", image)
    label = root / "labels" / "pan_seg" / "bitmasks" / split / f"{name}.png"
    save(label, bitmask)
    return label


def write_polygons(root, content, split="val"):
    path = root / "labels" / "pan_seg" / "polygons" / f"pan_seg_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    write(tmp_path / "bdd100k")
    return tmp_path / "bdd100k"


def segments_by_id(entry, name):
    names = class_set(name).names
    return {
        s["id"]: (names[s["category_id"]], s["isthing"], s["iscrowd"], s["area"])
        for s in entry["segments_info"]
    }


def faults_of(name="bdd100k_panoptic_val"):
    return list(native_faults(name, progress=False))


def test_forty_classes_by_hand(root):
    convert_bdd100k(str(root), "val", num_workers=1)
    (entry,) = DatasetCatalog.get("bdd100k_panoptic_val")
    assert entry["file_name"] == str(root / "images" / "10k" / "val" / "a.jpg")
    assert entry["pan_seg_file_name"] == str(root / "panoptic" / "40_val" / "a.png")
    np.testing.assert_array_equal(read_id_map(entry["pan_seg_file_name"]), IDS_40)
    assert segments_by_id(entry, "bdd100k_panoptic_val") == {
        7: ("road", False, 0, 3),
        22: ("street light", False, 0, 1),
        40: ("truck", True, 1, 1),
        35 + 256 * 31: ("car", True, 0, 1),
        35 + 256 * 300: ("car", True, 0, 1),
        31 + 256 * 32: ("person", True, 1, 1),
        38 + 256 * 34: ("trailer", True, 0, 1),
    }
    assert faults_of() == []


def test_nineteen_classes_by_hand(root):
    convert_bdd100k(str(root), "val", classes=19)
    (entry,) = DatasetCatalog.get("bdd100k_panoptic19_val")
    np.testing.assert_array_equal(read_id_map(entry["pan_seg_file_name"]), IDS_19)
    assert segments_by_id(entry, "bdd100k_panoptic19_val") == {
        7: ("road", False, 0, 3),
        27: ("truck", True, 1, 1),
        26 + 256 * 31: ("car", True, 0, 1),
        26 + 256 * 300: ("car", True, 0, 1),
        24 + 256 * 32: ("person", True, 1, 1),
    }
    assert faults_of("bdd100k_panoptic19_val") == []


def test_classes():
    native, mapped = class_set("bdd100k_panoptic_val"), class_set("bdd100k_panoptic19_val")
    assert native.dataset_ids == tuple(range(1, 41))
    assert native.things == tuple(range(30, 40))
    assert mapped == class_set("cityscapes_panoptic_val")
    names = {category.name: category for category in bdd100k.CATEGORIES}
    for category in cityscapes.CATEGORIES:
        assert names[category.name].is_thing == category.is_thing
    assert len({category.color for category in bdd100k.CATEGORIES}) == 40
    with pytest.raises(DatasetError, match="with 40 or with 19 classes, not with 20"):
        bdd100k.native_split("root", "val", 20)


@given(native=st.integers(1, 40), number=st.integers(0, 2**16 - 1), flags=st.integers(0, 15))
def test_every_value_fits_a_panoptic_png(native, number, flags):
    """Ids stay below 2^24, and two segments share one only if they are one."""
    key = (number * 256 + native) * 256 + flags
    segment = bdd100k._describe({n: n for n in range(1, 41)}, key)
    if flags & IGNORE:
        assert segment is None
    else:
        assert 0 < segment.id < 2**24
        assert segment.id % 256 == segment.category_id == native
        assert segment.id // 256 == (number if native > 30 else 0)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        ([[(41, 0, 1)]], r"R = 41 \(instance 1\): BDD100K has the classes 1 to 40"),
        ([[(35, 16, 1)]], r"G = 16 \(class 35, instance 1\): attributes have 4 bits"),
        ([[(35, CROWD, 5), (35, 0, 5)]], f"segment {35 + 256 * 5} is described in two ways"),
    ],
    ids=["unknown class", "unknown attribute", "two sets of attributes"],
)
def test_values_that_cannot_be_are_told(root, pixels, message):
    label = write(root, "b", pixels)
    with pytest.raises(DatasetError, match=message) as caught:
        convert_bdd100k(str(root), "val")
    assert str(caught.value).startswith(f"{label}: ")
    assert faults_of() == [str(caught.value)]


def test_masks_of_the_semantic_release_are_told(root):
    label = write(root, "b")
    save(label, np.zeros((3, 4), np.uint8))
    with pytest.raises(DatasetError, match="8-bit grey, expected a PNG of 8-bit RGBA"):
        convert_bdd100k(str(root), "val")


def test_sizes_and_missing_images_are_told(root):
    small = write(root, "b")
    save(small, rgba(PIXELS[:2]))
    write(root, "c")
    (root / "images" / "10k" / "val" / "c.jpg").unlink()
    first, second = faults_of()
    assert first.startswith(f"{small}: 4x2 pixels, but its image ")
    assert second.startswith(f"{root / 'images' / '10k' / 'val' / 'c.jpg'}: no such file")


def test_faults_are_found_in_parallel_in_the_same_order(root):
    for name in "bcd":
        write(root, name, [[(41, 0, 1)]])
    one = faults_of()
    assert len(one) == 3
    assert list(native_faults("bdd100k_panoptic_val", False, num_workers=2)) == one


def frame(*categories, name="a.jpg"):
    return {"name": name, "labels": [{"id": "x", "category": c} for c in categories]}


ALL = ["road", "street light", "car", "car", "person", "person", "trailer", "sky", "truck"]


def test_polygons_that_agree_are_no_fault(root):
    write_polygons(root, [frame(*ALL, "car")])  # a hidden car is no fault
    assert faults_of() == []
    write_polygons(root, {"frames": [frame(*ALL)]})
    assert faults_of() == []


def test_polygons_that_contradict_are_told(root):
    path = write_polygons(
        root,
        [
            frame("road", "street light", "car", "trailer", "sky", "truck", "spaceship"),
            frame(name="z.jpg"),
            frame(name="z.jpg"),
        ],
    )
    other = write(root, "b", [[(7, 0, 7)]])
    label = other.with_name("a.png")
    assert faults_of() == [
        f"{path}: 1 images are listed twice",
        f"{path}: z has no bitmask",
        f"{label}: its polygons name an unknown class 'spaceship'",
        f"{label}: class 31 (person) is not among its polygons",
        f"{label}: 2 instances of class 35 (car), but 1 polygons",
        f"{other}: not listed in {path}",
    ]


@pytest.mark.parametrize("text", ["[{", "[1]", '{"x": 1}'])
def test_damaged_polygon_files_are_told(root, text):
    path = write_polygons(root, text)
    (found,) = faults_of()
    assert found.startswith(f"{path}: not a label file of BDD100K")
    assert "\n" not in found


def test_a_missing_tree_is_told(tmp_path):
    with pytest.raises(DatasetError, match="no bitmasks of BDD100K here"):
        convert_bdd100k(str(tmp_path), "val")
