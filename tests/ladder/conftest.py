"""A ladder of two tiny rungs and a pre-training, whose processes run here."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import yaml

from slotseg.comparison import job, runner
from slotseg.ladder import read_ladder

TINY = Path(__file__).parents[1] / "engine" / "tiny.yaml"


@pytest.fixture(scope="session")
def scenes(tmp_path_factory, scene_folder_factory):
    root = tmp_path_factory.mktemp("datasets")
    scene_folder_factory(root / "clevr_generated" / "train", num_scenes=8, seed=0)
    scene_folder_factory(root / "clevr_generated" / "val", num_scenes=4, seed=2)
    return root


@pytest.fixture
def ladder_file(tmp_path, scenes, monkeypatch):
    """Path of the ladder; ``write(**changes)`` of it writes it anew with other entries."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(scenes))
    folder = tmp_path / "configs"
    folder.mkdir()
    weights = tmp_path / "pretrained" / "model_final.pth"
    configs = {
        "start.yaml": {"OUTPUT_DIR": str(weights.parent), "SOLVER": {"MAX_ITER": 1}},
        "0_plain.yaml": {"SOLVER": {"MAX_ITER": 3}, "MODEL": {"DEVICE": "cpu"}},
        "1_started.yaml": {
            "SOLVER": {"MAX_ITER": 3},
            "MODEL": {"DEVICE": "cpu", "WEIGHTS": "output/somewhere/model_final.pth"},
        },
    }
    for name, changes in configs.items():
        (folder / name).write_text(yaml.safe_dump({"_BASE_": str(TINY), **changes}))
    content = {
        "name": "tiny",
        "scores": ["slots/ARI", "slots/mBO"],
        "pretraining": [{"config": "start.yaml", "weights_for": "MODEL.WEIGHTS"}],
        "rungs": [{"config": "0_plain.yaml"}, {"config": "1_started.yaml", "name": "second"}],
    }
    path = folder / "ladder.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def change(ladder_file):
    """``change(rungs=...)``: the ladder with other entries, read."""

    def write(**changes):
        content = yaml.safe_load(ladder_file.read_text())
        ladder_file.write_text(yaml.safe_dump({**content, **changes}))
        return read_ladder(str(ladder_file))

    return write


@pytest.fixture
def phases(monkeypatch):
    """Run phases here instead of in processes of their own; returns the list of those that ran."""
    ran: list[tuple[str, str]] = []

    def run(phase, folder, log, *_):
        ran.append((phase, "/".join(Path(folder).parts[-2:])))
        try:
            return job.run_phase(phase, folder)
        except Exception:
            return 1

    monkeypatch.setattr(runner, "_run_process", run)
    monkeypatch.setattr("sys.argv", ["ladder.py"])
    handlers = {name: logging.getLogger(name).handlers[:] for name in ("slotseg", "detectron2")}
    yield ran
    for name, before in handlers.items():
        logging.getLogger(name).handlers[:] = before
