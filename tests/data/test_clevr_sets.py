"""The registered CLEVR sets: found when used, filtered by objects, missing ones explained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from slotseg.data.datasets import register_clevr
from slotseg.data.datasets.clevr import load_clevr_v1_dicts
from slotseg.data.scene_folder import SceneWriter
from slotseg.errors import DatasetError

ALL_SETS = [
    *("clevr_train", "clevr_val", "clevr6_train", "clevr6_val"),
    *("clevr_generated_train", "clevr_generated_tune", "clevr_generated_val"),
    *("clevr_v1_train", "clevr_v1_val", "clevr_v1_test"),
]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The variable is set long after registration, as a user's script may do."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", ALL_SETS)
def test_metadata(name: str) -> None:
    assert name in DatasetCatalog
    metadata = MetadataCatalog.get(name)
    assert metadata.thing_classes == ["object"] and metadata.stuff_classes == ["background"]
    assert len(metadata.thing_colors) == len(metadata.stuff_colors) == 1
    assert metadata.thing_dataset_id_to_contiguous_id == {1: 0}
    assert metadata.evaluator_type == "slots" and metadata.ignore_label == 255
    assert not Path(metadata.scene_folder).is_absolute()


def test_registering_again_changes_nothing() -> None:
    before = DatasetCatalog["clevr_train"]
    register_clevr()
    assert DatasetCatalog["clevr_train"] is before


def test_dicts_of_generated_scenes(root: Path, scene_folder_factory: Callable[..., Path]) -> None:
    folder = scene_folder_factory(root / "clevr_generated/val", num_scenes=3, size=(20, 24))
    dicts = DatasetCatalog.get("clevr_generated_val")
    assert [entry["image_id"] for entry in dicts] == [
        f"clevr_generated_val_00000{i}" for i in range(3)
    ]
    first = dicts[0]
    assert first["file_name"] == str(folder / "images/000000.png")
    assert first["mask_file_name"] == str(folder / "masks/000000.png")
    assert (first["height"], first["width"]) == (20, 24)
    assert first["num_objects"] == len(first["objects"]) >= 1


def test_clevr6_counts_objects_not_the_background(root: Path) -> None:
    writer = SceneWriter(str(root / "clevr/train"), (4, 4), {})
    for index, num_objects in enumerate([5, 6, 7, 10]):
        writer.write(
            index, np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), [{}] * num_objects
        )
    writer.finish(4)
    assert [d["num_objects"] for d in DatasetCatalog.get("clevr_train")] == [5, 6, 7, 10]
    assert [d["num_objects"] for d in DatasetCatalog.get("clevr6_train")] == [5, 6]


def test_clevr6_of_crowded_scenes_only(root: Path) -> None:
    writer = SceneWriter(str(root / "clevr/val"), (4, 4), {})
    writer.write(0, np.zeros((4, 4, 3), np.uint8), None, [{}] * 9)
    writer.finish(1)
    with pytest.raises(DatasetError, match="clevr6_val: no scene in .* has at most 6 objects"):
        DatasetCatalog.get("clevr6_val")


@pytest.mark.parametrize("name", ALL_SETS)
def test_missing_sets_name_folder_and_command(root: Path, name: str) -> None:
    with pytest.raises(DatasetError, match=f"data set {name}: not found") as info:
        DatasetCatalog.get(name)
    message = str(info.value)
    assert "\n" not in message and str(root) in message
    commands = {
        "clevr_generated": "python tools/generate_clevr.py",
        "clevr_v1": "datasets/README.md",
    }
    expected = commands.get(name.rpartition("_")[0], "python datasets/prepare_clevr.py")
    assert expected in message


def test_the_default_root_is_shown_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match="DETECTRON2_DATASETS is not set") as info:
        DatasetCatalog.get("clevr_train")
    assert str(tmp_path / "datasets/clevr/train") in str(info.value)


def test_unfinished_set(root: Path) -> None:
    SceneWriter(str(root / "clevr_generated/train"), (4, 4), {})
    with pytest.raises(DatasetError, match="unfinished .* go on with `python tools/generate"):
        DatasetCatalog.get("clevr_generated_train")


def make_v1(root: Path, split: str, num_images: int) -> Path:
    folder = root / "CLEVR_v1.0"
    (folder / "images" / split).mkdir(parents=True)
    for index in range(num_images):
        image = Image.new("RGBA", (480, 320))
        image.save(folder / "images" / split / f"CLEVR_{split}_{index:06d}.png")
    return folder


def test_clevr_v1_without_scene_file(root: Path) -> None:
    make_v1(root, "test", 2)
    dicts = DatasetCatalog.get("clevr_v1_test")
    assert [entry["image_id"] for entry in dicts] == ["CLEVR_test_000000", "CLEVR_test_000001"]
    assert (dicts[0]["height"], dicts[0]["width"]) == (320, 480)
    assert not {"mask_file_name", "num_objects", "objects"} & set(dicts[0])


def test_clevr_v1_with_scene_file(root: Path) -> None:
    folder = make_v1(root, "val", 1)
    entry = {
        "3d_coords": [1.0, 2.0, 0.7],
        "pixel_coords": [10, 20, 9.5],
        "rotation": 30.0,
        **{"size": "large", "color": "red", "material": "metal", "shape": "cube"},
    }
    scenes = {"scenes": [{"image_filename": "CLEVR_val_000000.png", "objects": [entry] * 3}]}
    (folder / "scenes").mkdir()
    path = folder / "scenes/CLEVR_val_scenes.json"
    path.write_text(json.dumps(scenes))
    (loaded,) = load_clevr_v1_dicts(str(folder), "val")
    assert loaded["num_objects"] == 3
    assert loaded["objects"][0] == {
        **{"size": "large", "color": "red", "material": "metal", "shape": "cube"},
        "position": [1.0, 2.0, 0.7],
        "rotation": 30.0,
        "pixel_coords": [10, 20, 9.5],
    }
    path.write_text(json.dumps(scenes)[:-9])
    with pytest.raises(DatasetError, match="CLEVR_val_scenes.json: .* cut short"):
        load_clevr_v1_dicts(str(folder), "val")


def test_clevr_v1_without_images(root: Path) -> None:
    (root / "CLEVR_v1.0/images").mkdir(parents=True)
    with pytest.raises(DatasetError, match="images/train: no CLEVR v1.0 images here"):
        DatasetCatalog.get("clevr_v1_train")
