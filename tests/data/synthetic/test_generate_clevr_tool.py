from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from slotseg.data.scene_folder import load_scenes


def run(project_root: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if k != "DETECTRON2_DATASETS"}
    command = [sys.executable, str(project_root / "tools" / "generate_clevr.py"), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_makes_the_splits_asked_for_from_any_folder(project_root: Path, tmp_path: Path) -> None:
    small = ["--image-size", "16", "20", "--workers", "1"]
    done = run(
        project_root, tmp_path, "--splits", "tune", "val", "--tune", "2", "--val", "1", *small
    )
    assert done.returncode == 0, done.stderr
    for split, seed, count in (("tune", 1, 2), ("val", 2, 1)):
        content = load_scenes(str(tmp_path / "datasets" / "clevr_generated" / split))
        assert content["source"]["seed"] == seed
        assert len(content["scenes"]) == count
        assert content["image_size"] == [16, 20]
    assert not (tmp_path / "datasets" / "clevr_generated" / "train").exists()


def test_bad_input_is_one_line(project_root: Path, tmp_path: Path) -> None:
    done = run(project_root, tmp_path, "--root", "here", "--train", "-3")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
