"""tools/split_dataset.py writes a list that a training takes."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from slotseg.config import get_cfg
from slotseg.data import training_images

TOOL = str(Path(__file__).parents[2] / "tools" / "split_dataset.py")
NAME = "cityscapes_generated_train"


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [TOOL, *arguments])
    runpy.run_path(TOOL, run_name="__main__")


def test_the_list_has_the_images_that_the_config_would_choose(
    tmp_path, monkeypatch, capsys, street_folder_factory
):
    street_folder_factory(tmp_path, "train", 8, (16, 32))
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    output = tmp_path / "three.txt"
    run(monkeypatch, NAME, "--images", "3", "--seed", "5", "--output", str(output))
    printed = capsys.readouterr().out
    assert f"{output}: 3 images" in printed
    car = next(line for line in printed.splitlines() if line.startswith("car "))
    assert car.split() == ["car", "thing", "3", "8"]
    assert output.read_text().startswith(f"# 3 of 8 images of {NAME}, split seed 5\n")
    options = ["DATASETS.TRAIN", (NAME,)]
    chosen = ["DATASETS.LABELED_IMAGES", 3, "DATASETS.SPLIT_SEED", 5]
    listed = ["DATASETS.LABELED_LIST", str(output)]
    assert training_images(get_cfg(None, [*options, *listed])) == training_images(
        get_cfg(None, [*options, *chosen])
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--images", "0"), "--images is 0, so no image would have labels"),
        (("--images", "9"), "LABELED_IMAGES is 9, but the training set has 8 images"),
        (("--fraction", "0"), "LABELED_FRACTION is"),
    ],
    ids=str,
)
def test_splits_that_cannot_be_are_told_in_one_line(
    tmp_path, monkeypatch, capsys, street_folder_factory, arguments, message
):
    street_folder_factory(tmp_path, "train", 8, (16, 32))
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(SystemExit) as info:
        run(monkeypatch, NAME, *arguments, "--output", str(tmp_path / "x.txt"))
    told = f"{info.value.code}{capsys.readouterr().err}"
    assert message in told and not (tmp_path / "x.txt").exists()
