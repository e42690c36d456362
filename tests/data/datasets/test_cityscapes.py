"""Cityscapes: its classes against the official ones, and conversion by the official scripts."""

from __future__ import annotations

import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from PIL import Image

from slotseg.classes import class_set
from slotseg.data.datasets import cityscapes
from slotseg.data.datasets.cityscapes import CATEGORIES, convert_cityscapes
from slotseg.data.datasets.native import native_faults
from slotseg.errors import DatasetError
from slotseg.panoptic_png import read_id_map

# Road, a class that is not evaluated (static), one car, a group of persons, a caravan.
INSTANCE_IDS = np.array(
    [
        [7, 7, 7, 4],
        [7, 26001, 26001, 4],
        [24, 26001, 29003, 0],
    ],
    np.uint16,
)
PANOPTIC_IDS = np.array(
    [
        [7, 7, 7, 0],
        [7, 26001, 26001, 0],
        [24, 26001, 0, 0],
    ]
)
SEGMENTS = [
    {"id": 7, "category_id": 7, "area": 4, "bbox": [0, 0, 3, 2], "iscrowd": 0},
    {"id": 24, "category_id": 24, "area": 1, "bbox": [0, 2, 1, 1], "iscrowd": 1},
    {"id": 26001, "category_id": 26, "area": 3, "bbox": [1, 1, 2, 2], "iscrowd": 0},
]


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write_image(root, split="val", city="ulm", name="ulm_000000_000019", ids=INSTANCE_IDS):
    image = np.zeros((*ids.shape, 3), np.uint8)
    save(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", image)
    labels = root / "gtFine" / split / city
    save(labels / f"{name}_gtFine_instanceIds.png", ids)
    return labels / f"{name}_gtFine_instanceIds.png"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    write_image(tmp_path / "cityscapes")
    return tmp_path / "cityscapes"


def test_classes_are_those_of_the_official_scripts():
    labels = pytest.importorskip("cityscapesscripts.helpers.labels").labels
    evaluated = sorted((x for x in labels if not x.ignoreInEval), key=lambda x: x.trainId)
    assert [(c.id, c.name, c.is_thing, c.color) for c in CATEGORIES] == [
        (x.id, x.name, x.hasInstances, x.color) for x in evaluated
    ]
    # Contiguous number = training id.
    assert [x.trainId for x in evaluated] == list(range(19))
    for label in labels:
        if label.id >= 0:
            segment = cityscapes.describe_instance_id(label.id)
            assert (segment is None) == label.ignoreInEval
            assert label.id in cityscapes.LABEL_IDS


def test_conversion_by_hand(root):
    pytest.importorskip("cityscapesscripts")
    write_image(root, name="ulm_000001_000019", ids=np.full((2, 3), 23, np.uint16))
    convert_cityscapes(str(root), "val")
    content = json.loads((root / "gtFine" / "cityscapes_panoptic_val.json").read_text())
    assert content["annotations"][0]["segments_info"] == SEGMENTS
    dicts = DatasetCatalog.get("cityscapes_panoptic_val")
    assert [entry["image_id"] for entry in dicts] == ["ulm_000000_000019", "ulm_000001_000019"]
    entry = dicts[0]
    image = root / "leftImg8bit" / "val" / "ulm" / "ulm_000000_000019_leftImg8bit.png"
    assert entry["file_name"] == str(image)
    assert (entry["height"], entry["width"]) == (3, 4)
    np.testing.assert_array_equal(read_id_map(entry["pan_seg_file_name"]), PANOPTIC_IDS)
    classes = class_set("cityscapes_panoptic_val")
    assert [classes.names[s["category_id"]] for s in entry["segments_info"]] == [
        "road",
        "person",
        "car",
    ]
    assert [s["iscrowd"] for s in entry["segments_info"]] == [0, 1, 0]
    assert list(native_faults("cityscapes_panoptic_val", progress=False)) == []


def test_own_reading_equals_the_official_scripts(root, tmp_path):
    pytest.importorskip("cityscapesscripts")
    generator = np.random.default_rng(0)
    values = [0, 1, 4, 7, 8, 11, 23, 24, 26, 29, 33, 24000, 26001, 26002, 29001, 33017]
    ids = generator.choice(values, (9, 13)).astype(np.uint16)
    write_image(root, name="ulm_000000_000019", ids=ids)
    split = cityscapes.native_split(str(root), "val")
    (file,) = split.files()
    own = split.read(file)
    official = split.write(file, str(tmp_path / "official.png"))
    assert own.info == official
    np.testing.assert_array_equal(own.ids, read_id_map(str(tmp_path / "official.png")))


def test_files_of_the_official_command_are_used_as_they_are(root):
    scripts = pytest.importorskip("cityscapesscripts.preparation.createPanopticImgs")
    scripts.convert2panoptic(str(root / "gtFine"), setNames=["val"])
    path = root / "gtFine" / "cityscapes_panoptic_val.json"
    written = path.read_text()
    convert_cityscapes(str(root), "val")
    assert path.read_text() == written
    (entry,) = DatasetCatalog.get("cityscapes_panoptic_val")
    assert entry["file_name"].endswith("leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png")
    assert entry["pan_seg_file_name"].endswith("ulm_000000_000019_gtFine_panoptic.png")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (INSTANCE_IDS.astype(np.uint8), "8-bit grey, expected a PNG of 16-bit grey"),
        (np.full((3, 4), 40, np.uint16), "id 40: Cityscapes has no label 40"),
        (np.full((3, 4), 255, np.uint16), "id 255: Cityscapes has no label 255"),
        (np.full((3, 4), 13001, np.uint16), "id 13001: instance 1 of label 13, which is stuff"),
    ],
    ids=["8-bit", "unknown label", "void of training ids", "training ids"],
)
def test_a_label_tree_of_another_release_is_told(root, ids, message):
    label = write_image(root, name="ulm_000001_000019", ids=ids)
    with pytest.raises(DatasetError) as caught:
        convert_cityscapes(str(root), "val")
    assert message in str(caught.value)
    assert str(label) in str(caught.value)
    assert not (root / "gtFine" / "cityscapes_panoptic_val.json").exists()
    assert not (root / "gtFine" / "cityscapes_panoptic_val").exists()
    (found,) = native_faults("cityscapes_panoptic_val", progress=False)
    assert found == str(caught.value)


def test_all_faults_of_a_tree_are_found_in_one_pass(root):
    cut = write_image(root, name="ulm_000001_000019")
    cut.write_bytes(cut.read_bytes()[:60])
    small = write_image(root, name="ulm_000002_000019")
    save(small, INSTANCE_IDS[:2])
    lonely = write_image(root, name="ulm_000003_000019")
    image = root / "leftImg8bit" / "val" / "ulm" / "ulm_000003_000019_leftImg8bit.png"
    image.unlink()
    mixed = write_image(root, name="ulm_000004_000019")
    labels = INSTANCE_IDS // 1000 + INSTANCE_IDS % 1000
    save(mixed.with_name("ulm_000004_000019_gtFine_labelIds.png"), labels.astype(np.uint8))
    faults = list(native_faults("cityscapes_panoptic_val", progress=False))
    assert len(faults) == 4
    assert faults[0].startswith(f"{cut}: ")
    assert faults[1].startswith(f"{small}: 4x2 pixels, but its image ")
    assert faults[1].endswith("has 4x3; are they of one release?")
    assert faults[2].startswith(f"{image}: no such file")
    assert lonely.exists()
    assert faults[3].startswith(f"{mixed}: contradicts ulm_000004_000019_gtFine_labelIds.png")


def test_label_ids_that_agree_are_no_fault(root):
    label = write_image(root)
    semantic = np.where(INSTANCE_IDS < 1000, INSTANCE_IDS, INSTANCE_IDS // 1000).astype(np.uint8)
    save(label.with_name("ulm_000000_000019_gtFine_labelIds.png"), semantic)
    assert list(native_faults("cityscapes_panoptic_val", progress=False)) == []


def test_a_missing_tree_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(DatasetError, match=r"no <city>/\*_gtFine_instanceIds.png here"):
        convert_cityscapes(str(tmp_path / "cityscapes"), "val")
    with pytest.raises(DatasetError, match="python datasets/prepare_cityscapes.py"):
        DatasetCatalog.get("cityscapes_panoptic_val")
    with pytest.raises(DatasetError, match="generate_streets.py --sets cityscapes"):
        DatasetCatalog.get("cityscapes_generated_tune")
    assert list(native_faults("cityscapes_panoptic_val", progress=False)) == []
