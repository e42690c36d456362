"""Choosing options on a split that nobody is scored on."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

from slotseg.comparison import (
    make_plan,
    make_tuning_plan,
    read_chosen,
    require_other_split,
    runner,
    tune,
    write_tuning,
)
from slotseg.comparison.plan import JOB_FILE, Job, phase_file
from slotseg.errors import ConfigError, DatasetError
from slotseg.files import write_atomically

TUNE = "cityscapes_generated_tune"


@pytest.fixture
def made_up(monkeypatch):
    """Trainings whose PQ falls with the distance of the learning rate from 0.002, plus the seed;
    none at 0.5."""
    ran = []

    def run(phase, folder, log, *_):
        own = Job.loads(Path(folder, JOB_FILE).read_text())
        rate = own.config().SOLVER.BASE_LR
        ran.append((own.name, rate, own.seed))
        assert own.config().DATASETS.TEST == (TUNE,)
        if rate == 0.5:
            Path(folder, f"{phase}.failed").write_text("loss is not finite")
            return 1
        quality = 40 - 1000 * abs(rate - 0.002) + own.seed
        result = {"scores": {"panoptic": {"PQ": quality}}, "steps": 3}
        # As a real training does: another thread may be reading all results.
        write_atomically(phase_file(folder, phase), json.dumps(result))
        return 0

    monkeypatch.setattr(runner, "_run_process", run)
    monkeypatch.setattr("slotseg.comparison.tuning.DatasetCatalog.get", lambda name: [])
    return ran


def plan_of(config, output, *tried, **arguments):
    arguments = {"dataset": TUNE, "minutes": 1.0} | arguments
    return make_tuning_plan([config], str(output), tried, **arguments)


def test_the_best_mean_is_chosen_and_nothing_is_run_twice(tiny_config, tmp_path, made_up):
    # The config says 0.002.
    tuning = plan_of(
        tiny_config, tmp_path, "SOLVER.BASE_LR=x0.5,x1,0.003,0.5", seeds=[0, 1], names=["slots"]
    )
    (choice,), table = tune(tuning, processes=2)
    assert sorted({rate for _, rate, _ in made_up}) == [0.001, 0.002, 0.003, 0.5]
    assert len(made_up) == 8
    assert choice.best.settings == (("SOLVER.BASE_LR", 0.002),)
    assert choice.edges == ()
    record = json.loads((tmp_path / "tuning.json").read_text())
    (model,) = record["models"]
    assert model["chosen"] == {"SOLVER.BASE_LR": 0.002}
    assert model["score"] == pytest.approx(40.5)
    assert [c["scores"] for c in model["candidates"][:3]] == [
        pytest.approx([39, 40]), pytest.approx([40, 41]), pytest.approx([39, 40])
    ]  # fmt: skip
    assert model["candidates"][3]["errors"] == ["loss is not finite"] * 2
    assert table == (tmp_path / "tuning.md").read_text()
    (line,) = [line for line in table.splitlines() if "chosen" in line and line.startswith("|")]
    assert "40.50 ± 0.71" in line
    assert "- slots, SOLVER.BASE_LR 0.5: loss is not finite" in table
    made_up.clear()
    tune(tuning)
    assert {rate for _, rate, _ in made_up} == {0.5}


def test_an_edge_is_told(tiny_config, tmp_path, made_up):
    (choice,), table = tune(plan_of(tiny_config, tmp_path, "SOLVER.BASE_LR=x1,x2,x4"))
    assert choice.best.settings == (("SOLVER.BASE_LR", 0.002),)
    assert choice.edges == ("SOLVER.BASE_LR",)
    assert "a better one may lie outside" in table


def test_all_combinations_of_several_options(tiny_config, tmp_path):
    tuning = plan_of(tiny_config, tmp_path, "SOLVER.BASE_LR=x2,0.1", "SOLVER.WARMUP_ITERS=x5,7")
    found = [
        (job.config().SOLVER.BASE_LR, job.config().SOLVER.WARMUP_ITERS) for job in tuning.plan.jobs
    ]
    # Whole numbers stay whole.
    assert found == [(0.004, 10), (0.004, 7), (0.1, 10), (0.1, 7)]
    assert len({job.folder for job in tuning.plan.jobs}) == 4


@pytest.mark.parametrize(
    ("tried", "changes", "message"),
    [
        (["SOLVER.BASE_LR"], {}, "expected KEY=V1,V2"),
        (["SOLVER.BASE_LR=1,,2"], {}, "expected KEY=V1,V2"),
        (["SOLVER.BASE_LR=1,1"], {}, "twice"),
        ([], {}, "name at least one"),
        (["SOLVER.NONE=1"], {}, "unknown config key"),
        (["SOLVER.OPTIMIZER=x2"], {}, "is a factor, but the config has no number there"),
        (["SOLVER.BASE_LR=1"], {"dataset": "cityscapes_generated_val"}, "scored on citysc.*_val"),
        (["SOLVER.BASE_LR=1"], {"dataset": "cityscapes_generated_train"}, "trained on"),
        (["SOLVER.BASE_LR=1"], {"train_dataset": TUNE}, "trained on"),
    ],
)
def test_what_cannot_be_tried(tiny_config, tmp_path, tried, changes, message):
    with pytest.raises(ConfigError, match=message) as error:
        plan_of(tiny_config, tmp_path / "out", *tried, **changes)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_comparison_takes_what_was_chosen(tiny_config, tmp_path, made_up):
    tune(plan_of(tiny_config, tmp_path, "SOLVER.BASE_LR=x1,x2", names=["slots"]))
    path = str(tmp_path / "tuning.json")
    assert read_chosen(path, ["slots"]) == (
        [["SOLVER.BASE_LR", 0.002]],
        [f"slots: SOLVER.BASE_LR 0.002, on {TUNE}"],
        TUNE,
    )
    with pytest.raises(ConfigError, match="nothing is chosen for 'fpn' there, only for slots"):
        read_chosen(path, ["slots", "fpn"])
    with pytest.raises(DatasetError, match="cannot be read"):
        read_chosen(str(tmp_path / "none.json"), ["slots"])
    for text in ("{", "[]", '{"models": [{}]}'):
        Path(path).write_text(text)
        with pytest.raises(DatasetError, match=r"not a tuning\.json"):
            read_chosen(path, ["slots"])


def test_what_is_half_done_has_chosen_nothing(tiny_config, tmp_path, made_up):
    """A tuning that was stopped knows a best value, but not whether it is the best."""
    tuning = plan_of(tiny_config, tmp_path, "SOLVER.BASE_LR=0.001,0.002,0.5", names=["slots"])
    first = tuning.plan.jobs[0]
    runner.run_phase_in_process(first, "score")
    write_tuning(tuning)
    path = str(tmp_path / "tuning.json")
    with pytest.raises(ConfigError, match="2 runs of 'slots' are still to be made"):
        read_chosen(path, ["slots"])
    tune(tuning)
    # What failed was tried.
    assert read_chosen(path, ["slots"])[0] == [["SOLVER.BASE_LR", "0.002"]]


def test_nobody_is_compared_where_options_were_chosen(tiny_config, tmp_path):
    require_other_split(make_plan([tiny_config], str(tmp_path)), TUNE)
    plan = make_plan([tiny_config], str(tmp_path), dataset=TUNE)
    with pytest.raises(ConfigError, match=f"chosen on {TUNE}, so no model may be compared there"):
        require_other_split(plan, TUNE)


def test_the_tool(tiny_config, tmp_path, made_up, project_root, monkeypatch, capsys):
    def tool(*arguments):
        monkeypatch.setattr(sys, "argv", ["tune.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(project_root / "tools" / "tune.py"), run_name="__main__")
        return stop.value.code

    shared = ("--configs", tiny_config, "--train-minutes", "1", "--dataset", TUNE, "--output")
    status = tool(
        *shared, tmp_path / "a", "--try", "SOLVER.BASE_LR=x1,x2", "SOLVER.WARMUP_ITERS", "3"
    )
    out = capsys.readouterr().out
    assert status == 0, out
    assert "## Tuned on cityscapes_generated_tune, each trained for 1 minutes, seeds 0" in out
    assert "tune.py --configs" in out
    assert tool(*shared, tmp_path / "b", "--try", "SOLVER.BASE_LR=0.5") == 1
    assert "loss is not finite" in capsys.readouterr().out
