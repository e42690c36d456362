from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from slotseg.data.synthetic.street_trees import TREES
from slotseg.data.synthetic.street_trees.convert import convert_street_split
from slotseg.data.synthetic.street_trees.split import write_street_split
from slotseg.data.synthetic.streets import render_street
from slotseg.data.synthetic.streets.labels import EVALUATED, TRAIN_IDS

PANOPTIC = {
    "cityscapes": ["gtFine/cityscapes_panoptic_tune.json"],
    "kitti2015": ["panoptic_tune.json"],
    "kitti_panoptic": ["panoptic_tune.json"],
    "kitti_step": ["panoptic_tune.json"],
    "bdd100k": ["panoptic/40_tune.json", "panoptic/19_tune.json"],
}


def run(project_root: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if k != "DETECTRON2_DATASETS"}
    command = [sys.executable, str(project_root / "tools" / "generate_streets.py"), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("name", sorted(TREES))
def test_every_tree_is_converted_into_the_truth_that_was_drawn(tmp_path: Path, name: str) -> None:
    """Native tree, converter of the real set, panoptic PNG: every pixel keeps its class."""
    tree = TREES[name]
    if name == "cityscapes":
        pytest.importorskip("cityscapesscripts")
    root = str(tmp_path)
    write_street_split(tree, root, "tune", 2, (64, 128), 0, 1, progress=False)
    convert_street_split(name, root, "tune")
    for path in PANOPTIC[name]:
        content = json.loads((tmp_path / path).read_text())
        names = {category["id"]: category["name"] for category in content["categories"]}
        assert len(content["annotations"]) == 2
        for index, annotation in enumerate(
            sorted(content["annotations"], key=lambda entry: _index(entry["image_id"]))
        ):
            scene = render_street(tree.stream * 3 + 1, index, (64, 128), tree.style)
            png = (tmp_path / path).with_suffix("") / annotation["file_name"]
            blue, green, red = np.moveaxis(cv2.imread(str(png)).astype(int), -1, 0)
            ids = red + 256 * green + 65536 * blue
            found = np.full(ids.shape, 255)
            train_id_of = {label.name: label.train_id for label in EVALUATED}
            for segment in annotation["segments_info"]:
                name_of = names[segment["category_id"]]
                found[ids == segment["id"]] = train_id_of.get(name_of, 255)
            np.testing.assert_array_equal(found, TRAIN_IDS[scene.label_ids])


def _index(image_id: str) -> int:
    """Scene number of an image: the last number of its name but for Cityscapes and KITTI 2015."""
    numbers = [int(part) for part in image_id.replace("-", "_").split("_") if part.isdigit()]
    return numbers[0] if image_id.endswith(("_10", "_000019")) else numbers[-1]


def test_makes_what_is_asked_for_from_any_folder(project_root: Path, tmp_path: Path) -> None:
    arguments = ["--sets", "kitti_step", "--splits", "tune", "val", "--num", "2", "1"]
    arguments += ["--size", "32", "64", "--workers", "1"]
    done = run(project_root, tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    root = tmp_path / "datasets" / "streets_generated" / "kitti_step"
    for split, count in (("tune", 2), ("val", 1)):
        assert len(json.loads((root / f"panoptic_{split}.json").read_text())["images"]) == count
        assert len(list((root / "images" / split).rglob("*.png"))) == count
    assert not (root / "images" / "train").exists()


def test_bad_input_is_one_line(project_root: Path, tmp_path: Path) -> None:
    done = run(project_root, tmp_path, "--output", "here", "--sets", "kitti2015", "--num", "-3")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
