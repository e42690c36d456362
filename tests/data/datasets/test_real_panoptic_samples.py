"""Real files of the published sets are read correctly (skipped where the samples are absent)."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from slotseg.data import load_coco_panoptic
from slotseg.data.datasets import bdd100k, cityscapes, kitti
from slotseg.data.datasets.bdd100k import convert_bdd100k
from slotseg.data.datasets.clevr_panoptic import SHAPE_OF_CODE
from slotseg.data.datasets.kitti import convert_kitti2015
from slotseg.errors import DatasetError
from slotseg.panoptic_png import read_id_map


@pytest.fixture
def sample(samples_dir):
    """``sample("folder/file")``: its path; skips the test where it is not there."""

    def find(name):
        path = samples_dir / name
        if not path.exists():
            pytest.skip(f"no sample {name}")
        return path

    return find


def assert_pngs_agree(dicts):
    """Every PNG holds exactly the listed segments with the listed areas."""
    for entry in dicts:
        ids, areas = np.unique(read_id_map(entry["pan_seg_file_name"]), return_counts=True)
        found = dict(zip(ids.tolist(), areas.tolist(), strict=True))
        found.pop(0, None)
        assert found == {s["id"]: s["area"] for s in entry["segments_info"]}


def test_coco_with_crowd(sample):
    folder = sample("coco_panoptic_sample/sample_data")
    dicts = load_coco_panoptic(
        str(folder / "input_images"),
        str(folder / "panoptic_examples"),
        str(folder / "panoptic_examples.json"),
    )
    assert [entry["image_id"] for entry in dicts] == ["142238", "439180"]
    assert [(entry["height"], entry["width"]) for entry in dicts] == [(427, 640), (360, 640)]
    assert_pngs_agree(dicts)
    # Two crowds of persons, one of horses.
    crowds = [s for entry in dicts for s in entry["segments_info"] if s["iscrowd"]]
    assert sorted(s["id"] for s in crowds) == [3153362, 5120499, 16175517]
    assert all(s["isthing"] for s in crowds)
    for entry in dicts:
        with Image.open(entry["file_name"]) as image:
            assert image.size == (entry["width"], entry["height"])


def test_cityscapes_with_crowd_and_training_ids(sample, tmp_path):
    folder = sample("deeplab2_testdata/data/testdata/gtFine")
    content = json.loads((folder / "cityscapes_panoptic_dummy_trainId.json").read_text())
    # The sample lists annotations only.
    (annotation,) = content["annotations"]
    content["images"] = [
        {"id": annotation["image_id"], "file_name": "a.png", "height": 800, "width": 800}
    ]
    content["categories"] = [
        {"id": number, "name": category.name, "isthing": int(category.is_thing)}
        for number, category in enumerate(cityscapes.CATEGORIES)
    ]
    path = tmp_path / "panoptic.json"
    path.write_text(json.dumps(content))
    pngs = str(folder / "cityscapes_panoptic_dummy_trainId")
    (entry,) = load_coco_panoptic("images", pngs, str(path))
    assert_pngs_agree([entry])
    assert [s["id"] for s in entry["segments_info"] if s["iscrowd"]] == [26]
    for segment in entry["segments_info"]:
        described = cityscapes.describe_instance_id(segment["id"])
        assert described.iscrowd == bool(segment["iscrowd"])
        assert cityscapes.CATEGORIES[segment["category_id"]].id == described.category_id
    # The registered sets have label ids.
    with pytest.raises(DatasetError, match="category 0 .road. is not one of this set"):
        load_coco_panoptic("images", pngs, str(path), cityscapes.CATEGORIES)


def test_coco_tree_of_few_pixels(sample):
    folder = sample("datumaro_format_fixtures/tests/assets/coco_dataset/coco_panoptic")
    (entry,) = load_coco_panoptic(
        str(folder / "images" / "val"),
        str(folder / "annotations" / "panoptic_val"),
        str(folder / "annotations" / "panoptic_val.json"),
    )
    assert (entry["image_id"], entry["height"], entry["width"]) == ("40", 10, 5)
    assert [(s["id"], s["area"], s["iscrowd"]) for s in entry["segments_info"]] == [
        (7, 20, 0),
        (20, 20, 1),
    ]
    assert_pngs_agree([entry])


def test_cityscapes_tree_of_few_pixels(sample):
    assets = sample("datumaro_format_fixtures/tests/assets/cityscapes_dataset")
    (file,) = cityscapes.native_split(str(assets / "train_dataset"), "train").files()
    assert file.image_id == "defaultcity_000002_000045"
    segments = cityscapes.native_split(str(assets / "train_dataset"), "train").read(file)
    # Its labelTrainIds are 19 where nothing is evaluated, and 11 (person) for 24001.
    np.testing.assert_array_equal(segments.ids, [[0, 0, 24001, 0, 0]])
    assert segments.faults == []
    # 1024 is no Cityscapes id: instances of "ego vehicle".
    (file,) = cityscapes.native_split(str(assets / "train_dataset"), "val").files()
    segments = cityscapes.native_split(str(assets / "train_dataset"), "val").read(file)
    assert "id 1024: instance 24 of label 1" in segments.faults[0]
    # The other tree has 8-bit maps under the name of the 16-bit ones.
    (file,) = cityscapes.native_split(str(assets / "dataset"), "train").files()
    with pytest.raises(DatasetError, match="8-bit grey, expected a PNG of 16-bit grey"):
        cityscapes.native_split(str(assets / "dataset"), "train").read(file)


def test_kitti_tree_of_few_pixels(sample, tmp_path):
    shutil.copytree(
        sample("datumaro_format_fixtures/tests/assets/kitti_dataset/kitti_segmentation"),
        tmp_path / "kitti2015",
    )
    convert_kitti2015(str(tmp_path / "kitti2015"), "train")
    split = kitti.kitti2015_split(str(tmp_path / "kitti2015"), "train")
    dicts = load_coco_panoptic(
        str(tmp_path / "kitti2015"), split.panoptic_root, split.panoptic_json, split.categories
    )
    assert [entry["image_id"] for entry in dicts] == ["000030_10", "000030_11"]
    maps = [read_id_map(entry["pan_seg_file_name"]).tolist() for entry in dicts]
    # Values 768 (void), 6913 and 6914 (trucks 1 and 2); 7937 (train 1), 3073 (wall), 768.
    assert maps == [[[0, 0, 27001, 27002, 27002]], [[31001, 31001, 12, 0, 0]]]
    assert_pngs_agree(dicts)


@pytest.fixture
def bdd100k_root(sample, tmp_path):
    """The toolkit's test file in the tree of the data set, with images of its size."""
    source = sample("bdd100k_panoptic")
    bitmasks = tmp_path / "labels" / "pan_seg" / "bitmasks" / "val"
    images = tmp_path / "images" / "10k" / "val"
    polygons = tmp_path / "labels" / "pan_seg" / "polygons"
    for folder in (bitmasks, images, polygons):
        folder.mkdir(parents=True)
    shutil.copy(source / "panseg_bdd100k" / "panseg_mask.png", bitmasks)
    shutil.copy(source / "panseg_bdd100k" / "panseg_bdd100k.json", polygons / "pan_seg_val.json")
    Image.new("RGB", (1280, 720)).save(images / "panseg_mask.jpg")
    return tmp_path


def test_bdd100k_bitmask(bdd100k_root):
    source = bdd100k_root / "labels" / "pan_seg" / "bitmasks" / "val" / "panseg_mask.png"
    red = np.asarray(Image.open(source))[..., 0]
    for classes in (40, 19):
        convert_bdd100k(str(bdd100k_root), "val", classes)
        split = bdd100k.native_split(str(bdd100k_root), "val", classes)
        (entry,) = load_coco_panoptic(
            "images", split.panoptic_root, split.panoptic_json, split.categories
        )
        assert_pngs_agree([entry])
        assert split.other_faults() == []
        names = [split.categories[s["category_id"]].name for s in entry["segments_info"]]
        assert names.count("car") == 2
        assert len(set(names)) == len(names) - 1  # only the cars are two
        of_name = {category.name: category.id for category in bdd100k.CATEGORIES}
        for segment, name in zip(entry["segments_info"], names, strict=True):
            if name != "car":
                assert segment["area"] == (red == of_name[name]).sum()
    # 4 (static), 3 (ground), 16 (banner), 22 (street light) are void with 19 classes.
    void = read_id_map(entry["pan_seg_file_name"]) == 0
    np.testing.assert_array_equal(void, np.isin(red, [0, 3, 4, 16, 22]))


def test_bdd100k_evaluation_pair(sample):
    read = bdd100k.native_split("root", "val").read
    for name, instances in (("a_gt.png", 5), ("a_pred.png", None)):
        path = sample(f"bdd100k_panoptic/eval/{name}")
        segments = read(bdd100k.LabelFile("a", "", str(path), "", ""))
        assert segments.faults == []
        assert segments.ids.shape == (720, 1280)
        if instances is not None:
            assert sum(s["category_id"] > 30 for s in segments.info) == instances


def test_shape_codes_of_clevr_with_masks(sample):
    """The first record has these codes (multi_object_datasets, issue 9) and these masks.

    A sphere fills pi / 4 of its bounding box and is as high as wide; number 3 and 4 are whole.
    """
    codes = ["1", "2", "1", "1", "3", "3", "3"]
    folder = sample("clevr_with_mask_sample/sample")
    for number, code in enumerate(codes, start=1):
        mask = np.asarray(Image.open(folder / f"CLEVR_mask_0_{number}.png").convert("L")) > 127
        rows, columns = np.nonzero(mask)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        round_enough = (
            abs(height - width) <= 2 and abs(mask.sum() / (height * width) - 0.785) < 0.02
        )
        if number in (3, 4):
            assert round_enough
            assert SHAPE_OF_CODE[code] == "sphere"
        if SHAPE_OF_CODE[code] == "cube":
            assert not round_enough
        if SHAPE_OF_CODE[code] == "cylinder":
            assert height > 1.1 * width
    assert sorted(SHAPE_OF_CODE.values()) == ["cube", "cylinder", "sphere"]
