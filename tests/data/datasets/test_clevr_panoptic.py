"""CLEVR as a panoptic set: shapes are things, whatever they are called in the scenes."""

from __future__ import annotations

import numpy as np
import pytest
from detectron2.data import DatasetCatalog

from slotseg.classes import class_set
from slotseg.data.datasets.clevr_panoptic import convert_clevr_panoptic
from slotseg.data.datasets.native import native_faults
from slotseg.data.scene_folder import VOID, SceneWriter
from slotseg.errors import DatasetError
from slotseg.panoptic_png import read_id_map

MASK = np.array([[0, 1, 1], [3, VOID, 0]], np.uint8)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    return tmp_path / "clevr_generated"


def write_scenes(folder, *scenes, masks=True):
    """``scenes``: the shapes of the objects of each."""
    writer = SceneWriter(str(folder), MASK.shape, {"scenes": len(scenes)})
    for index, shapes in enumerate(scenes):
        objects = [{"shape": shape} if shape else {} for shape in shapes]
        image = np.zeros((*MASK.shape, 3), np.uint8)
        writer.write(index, image, MASK if masks else None, objects)
    writer.finish(len(scenes))


def names_by_id(entry, name):
    names = class_set(name).names
    return {s["id"]: (names[s["category_id"]], s["isthing"], s["area"]) for s in entry}


def test_generated_scenes_by_hand(root):
    write_scenes(root / "tune", ["cube", "sphere", "cylinder"], ["sphere"] * 3)
    convert_clevr_panoptic(str(root), "tune")
    first, second = DatasetCatalog.get("clevr_generated_panoptic_tune")
    assert first["file_name"] == str(root / "tune" / "images" / "000000.png")
    assert first["image_id"] == "000000"
    np.testing.assert_array_equal(read_id_map(first["pan_seg_file_name"]), [[1, 2, 2], [4, 0, 1]])
    # The second object cannot be seen, so it is no segment.
    assert names_by_id(first["segments_info"], "clevr_generated_panoptic_tune") == {
        1: ("background", False, 2),
        2: ("cube", True, 2),
        4: ("cylinder", True, 1),
    }
    assert [s["category_id"] for s in second["segments_info"]] == [0, 2, 2]
    assert list(native_faults("clevr_generated_panoptic_tune", progress=False)) == []


def test_codes_of_clevr_with_masks(root):
    """The codes of the first published record; its picture is among the real samples."""
    write_scenes(root.parent / "clevr" / "val", ["3", "1", "2"])
    convert_clevr_panoptic(str(root.parent / "clevr"), "val")
    (entry,) = DatasetCatalog.get("clevr_panoptic_val")
    assert names_by_id(entry["segments_info"], "clevr_panoptic_val") == {
        1: ("background", False, 2),
        2: ("cube", True, 2),
        4: ("cylinder", True, 1),
    }


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (["cone", "cube", "cube"], "value 1: scenes.json has 'cone' as shape"),
        (["background", "cube", "cube"], "value 1: scenes.json has 'background' as shape"),
        (["cube", "cube", None], "value 3: scenes.json has '' as shape"),
    ],
    ids=["unknown", "background", "none"],
)
def test_shapes_that_cannot_be_are_told(root, shapes, message):
    write_scenes(root / "val", shapes)
    with pytest.raises(DatasetError, match=message):
        convert_clevr_panoptic(str(root), "val")
    (found,) = native_faults("clevr_generated_panoptic_val", progress=False)
    assert found.startswith(str(root / "val" / "masks" / "000000.png"))


def test_scenes_without_masks_are_told(root):
    write_scenes(root / "val", ["cube"], masks=False)
    with pytest.raises(DatasetError, match="images/000000.png has no mask"):
        convert_clevr_panoptic(str(root), "val")


def test_scenes_rendered_again_are_converted_again(root):
    write_scenes(root / "val", ["cube", "cube", "cube"])
    convert_clevr_panoptic(str(root), "val")
    write_scenes(root / "val", ["sphere", "sphere", "sphere"])
    convert_clevr_panoptic(str(root), "val")
    (entry,) = DatasetCatalog.get("clevr_generated_panoptic_val")
    assert [s["category_id"] for s in entry["segments_info"]] == [0, 2, 2]


def test_missing_scenes_are_told(root):
    with pytest.raises(DatasetError, match="prepare_clevr_panoptic.py --sets clevr_generated"):
        DatasetCatalog.get("clevr_generated_panoptic_train")
    with pytest.raises(DatasetError, match="train: no scenes here; datasets/README.md"):
        convert_clevr_panoptic(str(root), "train")
