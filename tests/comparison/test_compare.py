"""A comparison from plan to files."""

from __future__ import annotations

import csv
import io
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from slotseg.comparison import AS_BUILT, compare, job, make_plan
from slotseg.comparison.measure import peak_memory_mib
from slotseg.comparison.runner import run_phase_in_process
from slotseg.engine.trainer import Trainer
from slotseg.errors import DatasetError


@pytest.fixture(autouse=True)
def _four_steps(monkeypatch):
    """A minute holds four steps, whatever the load of the machine."""
    monkeypatch.setattr(job, "measure_step_seconds", lambda cfg, **_: 15.0)


def read_csv(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_train_score_measure_and_do_nothing_twice(tiny_config, phases, tmp_path):
    arguments = {
        "names": ["slots"], "minutes": 1.0, "seeds": [0, 1], "evaluations": 2, "speed_images": 1
    }  # fmt: skip
    plan = make_plan([tiny_config], str(tmp_path), **arguments)
    rows = compare(plan)
    assert phases == [("score", "slots"), ("measure", "slots")] * 2
    assert [row.errors for row in rows] == [[]]
    (line,) = read_csv(tmp_path / "comparison.csv")
    runs = json.loads((tmp_path / "comparison.json").read_text())["rows"][0]["runs"]
    qualities = [run["scores"]["panoptic/PQ"] for run in runs]
    assert float(line["PQ"]) == pytest.approx(sum(qualities) / 2)
    assert line["seeds"] == "0 1"
    assert float(line["steps"]) == 4
    assert line["input_size"] == "32x64"
    assert float(line["parameters"]) > 1000
    assert float(line["images_per_second"]) > 0
    assert float(line["inference_memory_mib"]) > 10
    for run in runs:
        seconds = [point["seconds"] for point in run["curve"]]
        assert seconds == pytest.approx([run["train_seconds"] / 2, run["train_seconds"]])
        assert run["curve"][-1]["PQ"] == pytest.approx(run["scores"]["panoptic/PQ"])
    with Image.open(tmp_path / "comparison.png") as picture:
        assert picture.width > picture.height

    # The same again runs nothing; a third seed only itself; another config everything.
    phases.clear()
    assert compare(make_plan([tiny_config], str(tmp_path), **arguments))[0].runs == rows[0].runs
    assert phases == []
    arguments["seeds"] = [0, 1, 2]
    (row,) = compare(make_plan([tiny_config], str(tmp_path), **arguments))
    assert len(phases) == 2
    assert [run.seed for run in row.runs] == [0, 1, 2]
    changed = make_plan(
        [tiny_config], str(tmp_path), **arguments, overrides=["SOLVER.BASE_LR", "0.1"]
    )
    assert {j.folder for j in changed.jobs}.isdisjoint(j.folder for j in plan.jobs)


def test_an_interrupted_training_goes_on(tiny_config, phases, tmp_path, monkeypatch):
    plan = make_plan([tiny_config], str(tmp_path), minutes=1.0, speed_images=1)
    step = Trainer.run_step

    def stop(self):
        if self.iter == 2:
            raise RuntimeError("power cut")
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run_step", stop)
        (row,) = compare(plan)
    assert row.errors == ["RuntimeError: power cut"]
    assert read_csv(tmp_path / "comparison.csv")[0]["error"] == "RuntimeError: power cut"
    # The number of steps is the one of the first attempt.
    monkeypatch.setattr(job, "measure_step_seconds", lambda cfg: pytest.fail("measured again"))
    (row,) = compare(plan)
    assert row.errors == []
    assert row.number("steps") == 4
    assert "Training from iteration 2 to 4" in Path(plan.jobs[0].folder, "log.txt").read_text()


def test_a_model_that_fails_is_named_and_the_others_go_on(tiny_config, phases, tmp_path):
    broken = tmp_path / "broken.yaml"
    broken.write_text(f'_BASE_: "{tiny_config}"\nMODEL: {{SLOTS: {{IN_FEATURE: "s16"}}}}\n')
    plan = make_plan(
        [str(broken), tiny_config], str(tmp_path / "out"), weights=[AS_BUILT] * 2, speed_images=1
    )
    rows = compare(plan)
    assert phases == [("score", "broken"), ("score", "tiny_slots"), ("measure", "tiny_slots")]
    assert [len(row.errors) for row in rows] == [1, 0]
    assert "MODEL.SLOTS.IN_FEATURE" in rows[0].errors[0]
    table = (tmp_path / "out" / "comparison.md").read_text()
    assert "| failed |" in next(line for line in table.splitlines() if "| broken" in line)
    assert "- broken: MODEL.SLOTS.IN_FEATURE" in table
    lines = read_csv(tmp_path / "out" / "comparison.csv")
    assert [line["PQ"] != "" for line in lines] == [False, True]
    assert "IN_FEATURE" in lines[0]["error"]


def test_weights_are_those_that_were_named(tiny_config, phases, tmp_path):
    trained = make_plan([tiny_config], str(tmp_path), minutes=1.0, speed_images=1)
    (first,) = compare(trained)
    weights = f"{trained.jobs[0].folder}/model_final.pth"
    (again,) = compare(make_plan([tiny_config], str(tmp_path), weights=[weights], speed_images=1))
    assert again.runs[0].scores == first.runs[0].scores
    assert again.number("train_seconds") is None
    # Without any, the config's own folder is looked into.
    overrides = ["OUTPUT_DIR", str(tmp_path / "none")]
    (missing,) = compare(
        make_plan([tiny_config], str(tmp_path), overrides=overrides, speed_images=1)
    )
    assert "none: holds no checkpoint; set MODEL.WEIGHTS" in missing.errors[0]
    overrides = ["OUTPUT_DIR", trained.jobs[0].folder]
    (found,) = compare(make_plan([tiny_config], str(tmp_path), overrides=overrides, speed_images=1))
    assert found.runs[0].scores == first.runs[0].scores


def test_a_phase_that_dies_without_a_word_has_a_reason(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr("slotseg.comparison.runner._run_process", lambda *_: -9)
    (row,) = compare(make_plan([tiny_config], str(tmp_path), weights=[AS_BUILT]))
    assert row.errors[0].startswith("its process was killed, perhaps for memory; see ")


def test_missing_data_is_one_error_and_no_row(tiny_config, phases, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "nowhere"))
    plan = make_plan([tiny_config], str(tmp_path / "out"), weights=[AS_BUILT])
    with pytest.raises(DatasetError, match="nowhere"):
        compare(plan)
    assert phases == []
    assert not (tmp_path / "out").exists()


@pytest.fixture
def tool(project_root, monkeypatch):
    """Run tools/compare.py in this process; returns its exit status."""

    def run(*arguments) -> int:
        monkeypatch.setattr(sys, "argv", ["compare.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(project_root / "tools" / "compare.py"), run_name="__main__")
        return stop.value.code or 0

    return run


def test_a_phase_in_a_process_of_its_own(tiny_config, tmp_path, monkeypatch):
    """It has all that it needs, wherever it is started, and its memory is not this one's."""
    (only,) = make_plan(
        [tiny_config], str(tmp_path), weights=[AS_BUILT], speed_images=1, command="compare.py -x"
    ).jobs
    monkeypatch.chdir(tmp_path)
    here = np.ones(2**29 // 8)  # 512 MiB
    assert run_phase_in_process(only, "measure")
    measured = json.loads(Path(only.folder, "measure.json").read_text())
    assert measured["command"] == "compare.py -x"
    assert measured["input_size"] == [32, 64]
    assert measured["inference_memory_mib"] < peak_memory_mib(torch.device("cpu")) - 200
    assert here.all()


def test_tool_prints_measured_and_published_apart(tool, tiny_config, phases, tmp_path, capsys):
    added = tmp_path / "forest.json"
    added.write_text(
        json.dumps({"name": "forest", "panoptic": {"PQ": 9.5, "SQ": 60, "RQ": None}, "seed": 0})
    )
    status = tool(
        "--configs", tiny_config, "--weights", AS_BUILT, "--output", tmp_path / "out",
        "--add", added, "--published", "cityscapes", "--speed-images", "1",
        "--", "TEST.IMS_PER_BATCH", "1",
    )  # fmt: skip
    out = capsys.readouterr().out
    assert status == 0, out
    measured, _, published = out.partition("## Published, not measured here")
    assert "| tiny_slots |" in measured
    assert "| forest     |" in measured
    assert "Mask2Former" not in measured
    assert "Mask2Former MODEL_ZOO" in published
    folder = next((tmp_path / "out").glob("tiny_slots-*/seed0"))
    assert "TEST.IMS_PER_BATCH 1" in json.loads((folder / "score.json").read_text())["command"]


def test_tool_exit_status_tells_of_failures(tool, tiny_config, phases, tmp_path, capsys):
    assert tool("--configs", tiny_config, "--output", tmp_path, "OUTPUT_DIR", tmp_path / "no") == 1
    assert "no: holds no checkpoint" in capsys.readouterr().out
    assert tool("--configs", "nowhere.yaml", "--output", tmp_path) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: nowhere.yaml: ")
