"""Tiny streets, a tiny model, and phases that run in this process."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from slotseg.comparison import job, runner

TINY = Path(__file__).with_name("tiny_slots.yaml")


@pytest.fixture(scope="session")
def street_data(tmp_path_factory, street_folder_factory):
    root = tmp_path_factory.mktemp("datasets")
    street_folder_factory(root, "train", num_images=4)
    street_folder_factory(root, "val", num_images=3)
    return root


@pytest.fixture
def tiny_config(street_data, monkeypatch):
    """Path of a config whose data is there."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(street_data))
    return str(TINY)


@pytest.fixture
def phases(monkeypatch):
    """Run phases here instead of in processes of their own; returns the list of those that ran."""
    ran: list[tuple[str, str]] = []

    def run(phase, folder, log, *_):
        ran.append((phase, Path(folder).parent.name.rpartition("-")[0]))
        try:
            return job.run_phase(phase, folder)
        except Exception:
            return 1

    monkeypatch.setattr(runner, "_run_process", run)
    monkeypatch.setattr("sys.argv", ["compare.py"])
    level = {name: logging.getLogger(name).handlers[:] for name in ("slotseg", "detectron2")}
    yield ran
    for name, handlers in level.items():
        logging.getLogger(name).handlers[:] = handlers
