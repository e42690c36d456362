"""Running a study, and its table, picture and record."""

from __future__ import annotations

import csv
import io
import json
import logging
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import ttest_rel

from slotseg.ablation import (
    ablate,
    command,
    draw_study,
    make_study_plan,
    paired_difference,
    read_study,
    study_table,
)
from slotseg.ablation.statistics import what_pairs_can_tell
from slotseg.comparison import job as job_module
from slotseg.comparison import runner
from slotseg.engine.trainer import Trainer

TOOL = Path(__file__).parents[2] / "tools" / "ablate.py"
CURVE = {"key": "DATASETS.MAX_IMAGES", "values": [2, 40], "label": "images"}
# Variant -> score of seeds 0, 1, 2.
SCORES = {"plain": (10.0, 12.0, 11.0), "colours": (11.0, 12.5, 13.0), "both": (9.0, 12.0, 10.0)}


def plan_of(path, tmp_path, **arguments):
    settings = {"steps": 4, "seeds": [0, 1, 2], "command": "ablate it"} | arguments
    return make_study_plan(read_study(path), str(tmp_path / "out"), **settings)


def read_csv(tmp_path):
    return list(csv.DictReader(io.StringIO((tmp_path / "out" / "ablation.csv").read_text())))


def row_of(text, name):
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_differences_are_those_of_equal_seeds(write_study_file, tmp_path, made_up):
    made_up.score = lambda job: SCORES[job.name][job.seed]
    record = ablate(plan_of(write_study_file(), tmp_path), processes=2)
    assert not record.failed
    assert len(made_up.ran) == 9
    plain, colours, both = record.trials
    assert plain.difference is None
    found = colours.difference
    assert found.values == {0: 1.0, 1: 0.5, 2: 2.0}
    assert found.mean == pytest.approx(3.5 / 3)
    assert found.deviation == pytest.approx(np.std([1.0, 0.5, 2.0], ddof=1))
    test = ttest_rel(SCORES["colours"], SCORES["plain"])
    assert found.p_value == pytest.approx(test.pvalue)
    low, high = test.confidence_interval(0.95)
    assert found.interval == pytest.approx((low, high))
    assert (found.improved, both.difference.improved) == (3, 0)

    text = (tmp_path / "out" / "ablation.md").read_text()
    assert text == study_table(record)
    assert row_of(text, "plain")[1:3] == ["11.00 ± 1.00", "reference"]
    assert row_of(text, "colours")[1:6] == [
        "12.17 ± 1.04", "+1.17 ± 0.76", "-0.73 to +3.06", f"{test.pvalue:.3f}", "3 of 3",
    ]  # fmt: skip
    assert "- colours: `INPUT.COLOR_JITTER.BRIGHTNESS 0.4` (few images are soon known" in text
    assert "`ablate it` on abacus, 1 threads" in text
    assert "With 3 seeds p falls below 0.05 only where" in text
    assert "Failed" not in text and "Not finished" not in text
    line = read_csv(tmp_path)[1]
    assert float(line["difference"]) == found.mean
    assert (line["pairs"], line["improved"], line["seeds"]) == ("3", "3", "0 1 2")
    assert float(line["train_minutes"]) == 1.0
    assert float(line["processor_minutes"]) == 1.5
    content = json.loads((tmp_path / "out" / "ablation.json").read_text())
    assert content["trials"][1]["difference"]["values"] == {"0": 1.0, "1": 0.5, "2": 2.0}
    assert content["trials"][0]["runs"][2]["scores"]["panoptic/PQ"] == 11.0
    assert (tmp_path / "out" / "ablation.png").read_bytes() == b"a picture"
    with Image.open(io.BytesIO(draw_study(record))) as picture:
        assert picture.width > picture.height


def test_nothing_is_run_twice_and_what_failed_is_tried_again(write_study_file, tmp_path, made_up):
    made_up.score = lambda job: "no memory" if (job.name, job.seed) == ("both", 1) else 10.0
    record = ablate(plan_of(write_study_file(), tmp_path, seeds=[0, 1]))
    assert record.failed
    text = (tmp_path / "out" / "ablation.md").read_text()
    assert "### Failed\n\n- both: seed 1: no memory" in text
    # The other seed still counts.
    assert row_of(text, "both")[1:6] == ["10.00", "+0.00", "–", "–", "0 of 1"]
    made_up.ran.clear()
    made_up.score = lambda job: 11.0
    record = ablate(plan_of(write_study_file(), tmp_path))
    assert sorted(made_up.ran) == [("both", 1), ("both", 2), ("colours", 2), ("plain", 2)]
    assert not record.failed
    made_up.ran.clear()
    ablate(plan_of(write_study_file(), tmp_path))
    assert made_up.ran == []
    # Another value of one variant is another run of that one alone, and of what builds on it.
    changed = [
        {"name": "plain"},
        {"name": "colours", "overrides": {"INPUT.COLOR_JITTER.BRIGHTNESS": 0.5}},
    ]
    ablate(plan_of(write_study_file(variants=changed), tmp_path))
    assert sorted(made_up.ran) == [("colours", seed) for seed in (0, 1, 2)]


def test_a_table_is_there_from_the_beginning(write_study_file, tmp_path, made_up, monkeypatch):
    """Whatever moment it is stopped at, it tells of what is done and what is not."""
    tables, write = [], command.write_study

    def look(plan):
        record = write(plan)
        tables.append((tmp_path / "out" / "ablation.md").read_text())
        return record

    monkeypatch.setattr(command, "write_study", look)
    ablate(plan_of(write_study_file(), tmp_path, seeds=[0]))
    assert len(tables) == 4
    assert row_of(tables[0], "plain")[1] == "–"
    assert "### Not finished yet\n\n- plain: not run\n- colours: not run\n- both:" in tables[0]
    # The next run may be over before the table of one is written.
    left = [table.count(": not run") for table in tables]
    assert left[0] == 3 and left[1] <= 2 and left[2] <= 1 and left[3] == 0
    assert row_of(tables[1], "plain")[1] == "10.00"
    assert row_of(tables[3], "colours")[5] == "0 of 1"
    assert "With one seed nothing can be said about chance" in tables[3]


def test_a_training_that_is_stopped_goes_on(write_study_file, tmp_path, monkeypatch):
    """Really trained, in this process: a variant learns by its own options, and what was begun is
    not begun anew."""
    monkeypatch.setattr(command, "draw_study", lambda record: b"a picture")
    monkeypatch.setattr(runner, "_run_process", lambda phase, folder, *_: run_here(phase, folder))
    monkeypatch.setattr("sys.argv", ["ablate.py"])
    handlers = {name: logging.getLogger(name).handlers[:] for name in ("slotseg", "detectron2")}
    variants = [{"name": "plain"}, {"name": "slow", "overrides": {"SOLVER.BASE_LR": 1e-6}}]
    plan = plan_of(write_study_file(variants=variants), tmp_path, seeds=[0], steps=3)
    step, train, began = Trainer.run_step, Trainer.train, []

    def begin(self):
        began.append((self.cfg.SOLVER.BASE_LR, self.start_iter))
        return train(self)

    monkeypatch.setattr(Trainer, "train", begin)

    def stop(self):
        if self.iter == 2 and self.cfg.SOLVER.BASE_LR == 1e-6:
            raise RuntimeError("power cut")
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run_step", stop)
        record = ablate(plan)
    assert [trial.row.errors for trial in record.trials] == [[], ["RuntimeError: power cut"]]
    record = ablate(plan)
    assert not record.failed
    assert [trial.row.number("steps") for trial in record.trials] == [3, 3]
    # The one is left alone, the other begins where it was stopped.
    assert began == [(0.004, 0), (1e-6, 0), (1e-6, 2)]
    for name, before in handlers.items():
        logging.getLogger(name).handlers[:] = before


def run_here(phase, folder):
    try:
        return job_module.run_phase(phase, folder)
    except RuntimeError:
        return 1


def test_a_curve_compares_at_equal_values(write_study_file, tmp_path, made_up):
    made_up.score = lambda job: (
        {"plain": 1.0, "both": 4.0}.get(job.name.split()[0], 2.0)
        * (1.0 + job.config().DATASETS.MAX_IMAGES)
    )
    record = ablate(plan_of(write_study_file(curve=CURVE), tmp_path, seeds=[0, 1]))
    found = {(t.variant.name, t.value): t.difference for t in record.trials}
    assert found["colours", 2].mean == 3.0 and found["colours", 40].mean == 41.0
    assert found["both", 40].mean == 3 * 41.0
    text = (tmp_path / "out" / "ablation.md").read_text()
    assert [row for row in text.splitlines() if row.startswith("| plain")][1].count("| 40 |") <= 1
    assert [line["value"] for line in read_csv(tmp_path)] == ["2"] * 3 + ["40"] * 3
    with Image.open(io.BytesIO(draw_study(record))) as picture:
        assert picture.width > 2 * picture.height


def test_steps_that_differ_are_told(write_study_file, tmp_path, made_up):
    longer = {"name": "longer", "overrides": {"SOLVER.MAX_ITER": 200}}
    path = write_study_file(variants=[{"name": "a"}, longer])
    ablate(plan_of(path, tmp_path, steps=None))
    text = (tmp_path / "out" / "ablation.md").read_text()
    assert "Not the same number of steps: a took 100, longer 200." in text
    assert "each trained as its config says" in text


def test_another_time_than_planned_is_told(write_study_file, tmp_path, made_up):
    for clock, told in (("wall", False), ("processor", True)):
        plan = plan_of(
            write_study_file(), tmp_path, steps=None, minutes=1.0, clock=clock, seeds=[0]
        )
        ablate(plan)
        text = (tmp_path / "out" / "ablation.md").read_text()
        told_of = "Not the 1 minutes that were planned: plain 1.50, colours 1.50, both 1.50."
        assert (told_of in text) is told
        assert ("| processor min |" in text.replace("   ", " ").replace("  ", " ")) is told


def test_pairs():
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
    assert paired_difference({0: float("nan")}, {0: 1.0}) is None
    one = paired_difference({0: 2.0, 1: 5.0}, {0: 1.0})
    assert (one.mean, one.deviation, one.interval, one.p_value) == (1.0, None, None, None)
    same = paired_difference({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0})
    assert (same.p_value, same.improved) == (1.0, 0)
    shifted = paired_difference({0: 2.0, 1: 3.0}, {0: 1.0, 1: 2.0})
    assert (shifted.p_value, shifted.interval) == (0.0, (1.0, 1.0))


def test_what_is_said_of_few_seeds_is_what_the_test_does():
    """Differences at the factor that is named are exactly at the limit."""
    values = np.array([-1.0, 0.0, 1.0])
    factor = 2.4841
    differences = values + factor
    assert ttest_rel(differences, np.zeros(3)).pvalue == pytest.approx(0.05, abs=1e-3)
    assert f"{factor:.1f} times" in what_pairs_can_tell(3)
    assert "1 in 8" in what_pairs_can_tell(3)


def test_the_tool_trains_and_tells(write_study_file, tmp_path, made_up, monkeypatch, capsys):
    def run(*options):
        arguments = [write_study_file(), "--output", str(tmp_path / "out"), *options]
        monkeypatch.setattr(sys, "argv", ["ablate.py", *arguments])
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(TOOL), run_name="__main__")
        return left.value.code, capsys.readouterr()

    options = ["--steps", "3", "--only", "both", "SOLVER.MOMENTUM", "0.0"]
    status, told = run(*options)
    assert status == 0
    assert {name for name, _ in made_up.ran} == {"plain", "both"}
    assert "| both" in told.out and "| colours" not in told.out
    assert "on top of all: `SOLVER.MOMENTUM 0.0`" in told.out
    status, told = run("--steps", "3", "--only", "nobody")
    assert status == 1
    assert told.err.startswith("error: --only: ") and told.err.count("\n") == 1
    made_up.score = lambda job: "no memory"
    assert run("--steps", "5")[0] == 1


def test_the_tool_prints_commands_and_runs_nothing(
    write_study_file, tmp_path, made_up, monkeypatch, capsys
):
    path = write_study_file()
    arguments = [path, "--output", str(tmp_path / "out"), "--steps", "3", "--seeds", "0", "1"]
    monkeypatch.setattr(sys, "argv", ["ablate.py", *arguments, "--print-commands", "torchrun"])
    runpy.run_path(str(TOOL), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and all(line.startswith("torchrun ") for line in lines)
    assert all(str(TOOL.with_name("train_net.py")) in line for line in lines)
    assert made_up.ran == [] and not (tmp_path / "out").exists()
    # What is done is not printed.
    ablate(plan_of(path, tmp_path, steps=3, seeds=[0]))
    runpy.run_path(str(TOOL), run_name="__main__")
    assert len(capsys.readouterr().out.splitlines()) == 3
