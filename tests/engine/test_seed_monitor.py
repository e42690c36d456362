"""What the slot monitor leaves of a run whose slots start on their images."""

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from slotseg.engine.trainer import Trainer
from slotseg.visualization import read_run_folder
from slotseg.visualization.report import build_report


@pytest.fixture
def train(tiny_cfg):
    def run(*overrides):
        cfg = tiny_cfg("MODEL.SLOTS.INITIALIZER.NAME", "SpectralInitializer", *overrides)
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=False)
        trainer.train()
        with open(f"{cfg.OUTPUT_DIR}/monitor.jsonl") as file:
            return cfg.OUTPUT_DIR, [json.loads(line) for line in file]

    return run


def test_seeds_are_measured_and_drawn(train):
    folder, looks = train("SLOT_MONITOR.PERIOD", 8)
    (look,) = looks
    assert 2 <= look["seeded_slots"] <= 5
    assert -1 <= look["seed_similarity"] <= 1
    assert look["fallback_share"] == 0.0
    assert len(look["seed_planes"]) == 5  # all images of the tiny set
    for plane in look["seed_planes"]:
        assert plane["image"].endswith(".png")
        assert len(plane["points"]) == 5
    events = EventAccumulator(folder)
    events.Reload()
    (shown,) = events.Images("slot_monitor/initial_slots")
    assert shown.width > shown.height > 100
    assert "slot_monitor/seed_similarity" in events.Tags()["scalars"]
    assert "Where slots start" in build_report(read_run_folder(folder))


def test_images_without_parts_are_told(train, caplog):
    with caplog.at_level("WARNING"):
        _, looks = train("MODEL.SLOTS.SPECTRAL.MIN_GAP", 2.0, "SLOT_MONITOR.PERIOD", 8)
    (look,) = looks
    assert (look["seeded_slots"], look["fallback_share"]) == (0.0, 1.0)
    assert "100% of the images fall into no parts" in look["message"]
    assert "100% of the images fall into no parts" in caplog.text


def test_seeds_that_are_alike_are_an_error(train, caplog):
    with caplog.at_level("ERROR"):
        limits = ("SLOT_MONITOR.SIMILARITY_WARNING", -1.1, "SLOT_MONITOR.SIMILARITY_ERROR", -1.1)
        _, looks = train(*limits, "SLOT_MONITOR.PERIOD", 8)
    assert looks[0]["verdict"] == "collapsed"
    assert "Slot monitor: the slots start alike" in caplog.text
