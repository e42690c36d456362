"""Studies of a tiny model, and trainings that only leave a score."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from slotseg.ablation import command
from slotseg.comparison import runner
from slotseg.comparison.plan import Job, phase_file
from slotseg.files import write_atomically

TINY = Path(__file__).parents[1] / "comparison" / "tiny_slots.yaml"

STUDY = {
    "name": "Tiny",
    "config": "model.yaml",
    "overrides": {"SOLVER.BASE_LR": 0.004},
    "variants": [
        {"name": "plain"},
        {
            "name": "colours",
            "overrides": {"INPUT.COLOR_JITTER.BRIGHTNESS": 0.4},
            "reason": "few images are soon known by heart",
        },
        {"name": "both", "with": ["colours"], "overrides": {"INPUT.RANDOM_FLIP": "horizontal"}},
    ],
}


@pytest.fixture(scope="session")
def street_data(tmp_path_factory, street_folder_factory):
    root = tmp_path_factory.mktemp("datasets")
    street_folder_factory(root, "train", num_images=4)
    street_folder_factory(root, "val", num_images=2)
    return root


@pytest.fixture
def write_study_file(tmp_path, street_data, monkeypatch):
    """Write the study with some keys changed (None: taken out); its path."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(street_data))
    (tmp_path / "model.yaml").write_text(f'_BASE_: "{TINY}"\n')

    def write(**changes):
        content = {key: value for key, value in (STUDY | changes).items() if value is not None}
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return str(path)

    return write


@pytest.fixture
def made_up(monkeypatch):
    """Trainings that are over at once: give it a score of a job, or an error to raise; it lists
    what ran as (name, seed)."""

    class MadeUp:
        def __init__(self):
            self.ran = []
            self.score = lambda job: 10.0

        def __call__(self, phase, folder, *_):
            job = Job.loads(Path(folder, "job.json").read_text())
            self.ran.append((job.name, job.seed))
            score = self.score(job)
            if isinstance(score, str):
                Path(folder, f"{phase}.failed").write_text(score)
                return 1
            result = {
                "scores": {"panoptic": {"PQ": score, "PQ_things": score / 2, "PQ_stuff": None}},
                "steps": job.steps or 9,
                "train_seconds": 60.0,
                "train_processor_seconds": 90.0,
                "command": job.command,
                "machine": {"processor": "abacus", "threads": 1, "device": "cpu"},
            }
            # Whole or not at all, as the real ones do: others read while this one writes.
            write_atomically(phase_file(folder, phase), json.dumps(result))
            return 0

    double = MadeUp()
    monkeypatch.setattr(runner, "_run_process", double)
    # Drawn after every run, and slower than all else here.
    monkeypatch.setattr(command, "draw_study", lambda record: b"a picture")
    return double
