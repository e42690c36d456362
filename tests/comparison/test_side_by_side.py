"""Trainings at once, and budgets on the processor's clock."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slotseg.comparison import compare, job, make_plan, runner
from slotseg.comparison.plan import phase_file

SCORES = {"scores": {"panoptic": {"PQ": 1.0}}, "steps": 3}


@pytest.fixture
def made_up(monkeypatch):
    """Phases that only leave a result; returns what ran with which threads."""
    ran = []

    def run(phase, folder, log, threads, waits_asleep):
        ran.append((phase, Path(folder).parent.name[0] + Path(folder).name[-1], threads))
        if "b-" not in folder:
            Path(phase_file(folder, phase)).write_text(json.dumps(SCORES))
        return 0

    monkeypatch.setattr(runner, "_run_process", run)
    monkeypatch.setattr(runner, "_cores", lambda: 8)
    return ran


def test_speed_is_measured_when_all_trainings_are_over(tiny_config, tmp_path, made_up):
    plan = make_plan([tiny_config] * 2, str(tmp_path), names=["a", "b"], minutes=1.0, seeds=[0, 1])
    rows = compare(plan, processes=2)
    *trained, first, second = made_up
    assert sorted(trained) == [("score", name, 4) for name in ("a0", "a1", "b0", "b1")]
    # One after the other, with all cores, and only where there is something to measure.
    assert [first, second] == [("measure", "a0", None), ("measure", "a1", None)]
    assert [bool(row.errors) for row in rows] == [False, True]
    made_up.clear()
    compare(plan, processes=2)
    assert sorted(made_up) == [("score", "b0", 4), ("score", "b1", 4)]


def test_threads_that_wait_do_not_run_the_processors_clock(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert runner._environment(None, False)["OMP_WAIT_POLICY"] == "ACTIVE"
    assert runner._environment(None, True)["OMP_WAIT_POLICY"] == "PASSIVE"
    assert runner._environment(2, False) | {"OMP_NUM_THREADS": "2"} == runner._environment(2, True)


def test_minutes_of_the_processor(tiny_config, phases, tmp_path, monkeypatch):
    asked = []

    def measured(cfg, *, min_seconds, max_seconds, clock_name):
        asked.append((min_seconds, max_seconds, clock_name))
        return 900.0

    monkeypatch.setattr(job, "measure_step_seconds", measured)
    plan = make_plan(
        [tiny_config], str(tmp_path), minutes=60.0, evaluations=2, speed_images=1, clock="processor"
    )
    (row,) = compare(plan)
    assert row.errors == []
    # A longer training is worth a longer measurement.
    assert asked == [(90.0, 180.0, "processor")]
    assert row.number("steps") == 4
    seconds = row.number("train_processor_seconds")
    assert seconds == pytest.approx(4 * row.number("step_processor_seconds"))
    curve = row.runs[0].curve
    assert [point["seconds"] for point in curve] == pytest.approx([seconds / 2, seconds])
    assert curve[-1]["PQ_stuff"] == pytest.approx(row.score("panoptic/PQ_stuff")[0])
    assert row.number("processor_seconds_an_image") > 0
    record = json.loads((tmp_path / "comparison.json").read_text())
    assert record["clock"] == "processor"
    assert "60 processor minutes" in (tmp_path / "comparison.md").read_text()
