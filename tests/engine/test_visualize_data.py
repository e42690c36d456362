"""What is drawn is what a training sees."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from slotseg.classes import Category
from slotseg.config import get_cfg
from slotseg.data import TrainingBatch, build_train_loader, register_coco_panoptic
from slotseg.data.mixing import build_mixing
from slotseg.engine import visualize_data as module
from slotseg.engine.visualize_data import draw_sample, draw_views, visualize_data
from slotseg.errors import ConfigError

SET = "clevr_generated_train"
OWN = "visualize_test_panoptic"
SMALL = ("INPUT.IMAGE_SIZE", "(16, 16)", "SOLVER.IMS_PER_BATCH", "2")


@pytest.fixture
def cfg(tmp_path: Path, scene_folder_factory: Callable[..., Path], monkeypatch) -> Any:
    scene_folder_factory(tmp_path / "clevr_generated" / "train", 3, (16, 16), (1, 2))
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    return get_cfg(
        None,
        ["INPUT.IMAGE_SIZE", (16, 16), "INPUT.RANDOM_FLIP", "horizontal"]
        + [
            "DATASETS.TRAIN",
            (SET,),
            "SOLVER.IMS_PER_BATCH",
            4,
            "SEED",
            5,
            "DATALOADER.NUM_WORKERS",
            0,
        ],
    )


def test_the_first_samples_of_the_training_are_drawn(cfg, tmp_path, monkeypatch):
    drawn: list[dict[str, Any]] = []
    monkeypatch.setattr(
        module, "draw_sample", lambda sample, *_: drawn.append(sample) or np.zeros((2, 2, 3), "u1")
    )
    files = visualize_data(cfg, str(tmp_path / "out"), num=6, progress=False)
    batches = iter(build_train_loader(cfg))
    trained = [*next(batches), *next(batches)][:6]
    assert [one["image_id"] for one in drawn] == [one["image_id"] for one in trained]
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(drawn, trained, strict=True))
    assert [Path(file).name[:5] for file in files] == [f"{n:04d}_" for n in range(6)]
    assert all(Path(file).exists() for file in files)
    drawn.clear()
    visualize_data(cfg, str(tmp_path / "out"), num=6, seed=6, progress=False)
    assert any(not torch.equal(a["image"], b["image"]) for a, b in zip(drawn, trained, strict=True))


def test_they_are_mixed_as_the_training_does_it_at_that_iteration(cfg, tmp_path, monkeypatch):
    drawn: list[dict[str, Any]] = []
    monkeypatch.setattr(
        module, "draw_sample", lambda sample, *_: drawn.append(sample) or np.zeros((2, 2, 3), "u1")
    )
    cfg.MIXING.CUTMIX.PROBABILITY = cfg.MIXING.MOSAIC.PROBABILITY = 0.5
    cfg.MIXING.CUTMIX.START = 3
    files = visualize_data(cfg, str(tmp_path / "out"), num=8, iteration=2, progress=False)
    batches, mixing = iter(build_train_loader(cfg, 2)), build_mixing(cfg)
    trained = [sample for t in (2, 3) for sample in mixing(TrainingBatch(next(batches)), t).labeled]
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(drawn, trained, strict=True))
    assert any("mixed_with" in sample for sample in drawn)
    assert [Path(file).name[:5] for file in files] == [f"{n:04d}_" for n in range(8, 16)]


@pytest.mark.parametrize("image_format", ["RGB", "BGR", "L"])
def test_views_lie_on_each_other_and_the_window_is_framed(cfg, tmp_path, image_format):
    cfg.INPUT.FORMAT = image_format
    cfg.DATASETS.LABELED_IMAGES = 1
    cfg.SEMI.IMS_PER_BATCH = 1
    # Too gentle for any colour to change by much.
    for key in ("COLOR_PROBABILITY", "GRAYSCALE", "BLUR"):
        cfg.INPUT.STRONG[key] = 0.0
    sample = next(iter(build_train_loader(cfg))).unlabeled[0]
    picture = draw_views(sample, image_format).astype(float)
    side = 256
    assert picture.shape == (side, 3 * side + 2 * 8, 3)
    weak, carried, strong = (picture[:, i * (side + 8) :][:, :side] for i in range(3))
    assert abs(carried - strong).mean() < 12
    frame = (weak == (255, 160, 0)).all(axis=2)
    view, factor = sample["view"], side // 16
    rows, columns = frame.any(1).nonzero()[0], frame.any(0).nonzero()[0]
    assert abs(rows[0] - factor * view.top) <= 2 and abs(columns[0] - factor * view.left) <= 2
    assert abs(rows[-1] - factor * (view.top + view.height)) <= 2
    assert abs(columns[-1] - factor * (view.left + view.width)) <= 2
    (file,) = visualize_data(cfg, str(tmp_path), num=1, unlabeled=True, progress=False)
    assert np.array_equal(np.asarray(Image.open(file)), picture)


@pytest.mark.parametrize("image_format", ["RGB", "BGR", "L"])
def test_pictures_have_the_colours_of_the_file(cfg, image_format):
    cfg.INPUT.FORMAT = image_format
    sample = next(iter(build_train_loader(cfg)))[0]
    picture = draw_sample(sample, image_format, SET)
    factor = picture.shape[0] // 16
    image = np.asarray(Image.open(sample["file_name"]).convert("RGB"), float)
    left = picture[:, : 16 * factor].astype(float).mean((0, 1))
    expected = image.mean((0, 1)) if image_format != "L" else image @ [0.299, 0.587, 0.114]
    assert np.allclose(left, np.mean(expected) if image_format == "L" else expected, atol=6)


def test_panoptic_samples_and_images_without_labels(tmp_path):
    register_coco_panoptic(
        OWN, "a", "b", "c", [Category(1, "road", False, (0, 255, 0)), Category(2, "car", True, ())]
    )
    try:
        sample = {
            "file_name": "x.png",
            "image": torch.full((3, 20, 20), 100, dtype=torch.uint8),
            "segment_map": torch.zeros(20, 20, dtype=torch.int64),
            "segment_category": torch.tensor([0]),
            "segment_is_object": torch.tensor([False]),
            "segment_is_crowd": torch.tensor([False]),
        }
        picture = draw_sample(sample, "RGB", OWN)
        half = picture.shape[1] // 2
        assert (picture[:, : half - 8] == 100).all()
        assert picture[:100, half + 8 :, 1].mean() > 140
        del sample["segment_map"]
        assert (draw_sample(sample, "RGB", OWN) == 100).all()
    finally:
        DatasetCatalog.pop(OWN)
        MetadataCatalog.pop(OWN)


def test_numbers_that_make_no_sense(cfg, tmp_path):
    with pytest.raises(ConfigError, match="0 samples"):
        visualize_data(cfg, str(tmp_path), num=0)
    with pytest.raises(ConfigError, match="nonsense"):
        visualize_data(cfg, str(tmp_path), dataset="nonsense")
    with pytest.raises(ConfigError, match="iteration -1"):
        visualize_data(cfg, str(tmp_path), iteration=-1)
    with pytest.raises(ConfigError, match="SEMI.IMS_PER_BATCH is 0"):
        visualize_data(cfg, str(tmp_path), unlabeled=True)


def test_the_tool(cfg, tmp_path, project_root, monkeypatch, capsys):
    path = str(project_root / "tools" / "visualize_data.py")
    arguments = ["--dataset", SET, "--num", "1", "--seed", "1", "--iteration", "1"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [path, *arguments, "--output", "drawn", *SMALL])
    runpy.run_path(path, run_name="__main__")
    assert "pictures in drawn: 1" in capsys.readouterr().out
    assert len(list((tmp_path / "drawn").glob("0002_*.png"))) == 1
