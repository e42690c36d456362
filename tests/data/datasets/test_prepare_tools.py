"""datasets/prepare_*.py as users run them."""

from __future__ import annotations

import runpy
import sys

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from PIL import Image

from slotseg.panoptic_png import ids_to_rgb


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def image():
    return np.zeros((2, 2, 3), np.uint8)


@pytest.fixture
def prepare(project_root, tmp_path, monkeypatch, capfd):
    """``prepare(name, *arguments)``: run the tool elsewhere; (status, stdout, stderr)."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)

    def run(name, *arguments):
        script = str(project_root / "datasets" / f"prepare_{name}.py")
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        status = 0
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as error:
            status = error.code or 0
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return run


def test_cityscapes(prepare, tmp_path):
    pytest.importorskip("cityscapesscripts")
    root = tmp_path / "cityscapes"
    for split in ("train", "val"):
        save(root / "leftImg8bit" / split / "ulm" / "ulm_000000_000019_leftImg8bit.png", image())
        ids = np.array([[7, 26001], [24, 0]], np.uint16)
        save(root / "gtFine" / split / "ulm" / "ulm_000000_000019_gtFine_instanceIds.png", ids)
    status, out, err = prepare("cityscapes", "--workers", 1)
    assert status == 0, err
    assert out.splitlines() == [f"{split}: converted in {root}" for split in ("train", "val")]
    for split in ("train", "val"):
        (entry,) = DatasetCatalog.get(f"cityscapes_panoptic_{split}")
        assert [s["id"] for s in entry["segments_info"]] == [7, 24, 26001]


def test_kitti_converts_what_is_there(prepare, tmp_path):
    for split, folder in (("train", "training"), ("val", "validation")):
        save(tmp_path / "kitti_panoptic" / folder / "images" / "a.png", image())
        labels = ids_to_rgb(np.full((2, 2), 26001, np.int32))
        save(tmp_path / "kitti_panoptic" / folder / "annotations" / "a.png", labels)
        save(tmp_path / "kitti_step" / "images" / split / "0000" / "000000.png", image())
        save(tmp_path / "kitti_step" / "panoptic_maps" / split / "0000" / "000000.png", image())
    status, out, err = prepare("kitti", "--workers", 1)
    assert status == 0, err
    assert len(out.splitlines()) == 4
    assert DatasetCatalog.get("kitti_panoptic_val")[0]["segments_info"][0]["id"] == 26001
    assert DatasetCatalog.get("kitti_step_panoptic_train")[0]["segments_info"][0]["id"] == 7


def test_bdd100k_with_both_sets_of_classes(prepare, tmp_path):
    root = tmp_path / "bdd100k"
    save(root / "images" / "10k" / "val" / "a.jpg", image())
    labels = np.full((2, 2, 4), (22, 0, 0, 22), np.uint8)
    save(root / "labels" / "pan_seg" / "bitmasks" / "val" / "a.png", labels)
    status, _, err = prepare("bdd100k", "--splits", "val", "--workers", 1)
    assert status == 0, err
    assert len(DatasetCatalog.get("bdd100k_panoptic_val")[0]["segments_info"]) == 1
    # Street lights are void among the 19 classes of Cityscapes.
    assert DatasetCatalog.get("bdd100k_panoptic19_val")[0]["segments_info"] == []


def test_clevr_converts_what_is_there(prepare, tmp_path, scene_folder_factory):
    folder = scene_folder_factory(tmp_path / "clevr_generated" / "val", num_scenes=2)
    status, _, err = prepare("clevr_panoptic", "--workers", 1)
    assert status == 1
    assert "has 'disc' as shape" in err or "has 'square' as shape" in err
    index = folder / "scenes.json"
    index.write_text(index.read_text().replace('"disc"', '"sphere"').replace('"square"', '"cube"'))
    status, out, err = prepare("clevr_panoptic", "--workers", 1)
    assert status == 0, err
    assert out == f"clevr_generated val: converted in {tmp_path / 'clevr_generated'}\n"
    assert len(DatasetCatalog.get("clevr_generated_panoptic_val")) == 2


@pytest.mark.parametrize("name", ["cityscapes", "kitti", "bdd100k", "clevr_panoptic"])
def test_missing_sets_are_told_in_one_line(prepare, name):
    status, out, err = prepare(name)
    assert status == 1
    assert out == ""
    assert err.startswith("error: ")
    assert "datasets/README.md" in err
    assert len(err.splitlines()) == 1
