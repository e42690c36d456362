"""Climbing a tiny ladder from plan to files."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

from slotseg.comparison import job
from slotseg.engine.trainer import Trainer
from slotseg.errors import CheckpointError, ConfigError
from slotseg.ladder import climb, draw_ladder, make_ladder_plan, read_ladder


def run(ladder, output, **arguments):
    """The last record of a climb."""
    anyway = arguments.pop("climb_anyway", False)
    plan = make_ladder_plan(ladder, str(output), speed_images=1, **arguments)
    *_, last = climb(plan, climb_anyway=anyway)
    return last


@pytest.fixture(autouse=True)
def _calm_monitor(monkeypatch):
    """Three steps decide nothing about slots: the monitor calls them healthy."""
    monkeypatch.setattr("slotseg.engine.slot_health.diagnose", lambda *_, **__: [])


@pytest.fixture(autouse=True)
def _one_picture(monkeypatch):
    """The picture of the first training serves for all: drawing takes longer than they do."""
    drawn = []

    def draw(record):
        if not drawn:
            drawn.append(draw_ladder(record))
        return drawn[0]

    monkeypatch.setattr("slotseg.ladder.command.draw_ladder", draw)


def test_pretrain_train_measure_and_do_nothing_twice(ladder_file, phases, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ladder = read_ladder(str(ladder_file))
    last = run(ladder, tmp_path / "out", seeds=[0, 1], steps=2)
    kinds = [phase for phase, _ in phases]
    assert kinds == ["train", *["score", "score", "measure"] * 2]
    assert last.stopped == ""
    assert [entry.steps for entry in last.pretraining] == [1]
    # Records are read on other machines.
    assert [entry.weights for entry in last.pretraining] == ["pretrained/model_final.pth"]
    first, second = last.rungs
    assert (first.starts_from, second.starts_from) == ("random", "start, this ladder")
    assert [run.seed for run in second.row.runs] == [0, 1]
    assert second.row.number("steps") == 2
    assert second.health.verdict == "healthy"
    mean, deviation = second.difference(first, "slots/ARI")
    gains = [b - a for a, b in zip(*(r.row.score("slots/ARI") for r in last.rungs), strict=True)]
    assert mean == pytest.approx(sum(gains) / 2)
    assert deviation == pytest.approx(abs(gains[0] - gains[1]) / 2**0.5)

    out = tmp_path / "out"
    assert {path.name for path in out.glob("ladder.*")} == {
        "ladder.json", "ladder.md", "ladder.html", "ladder.png"
    }  # fmt: skip
    content = json.loads((out / "ladder.json").read_text())
    assert content["stopped"] is None
    assert (
        content["rungs"][1]["runs"][0]["scores"]["slots/ARI"]
        == second.row.runs[0].scores["slots/ARI"]
    )
    lines = (out / "ladder.md").read_text().splitlines()
    table = {line.split("|")[1].strip(): line for line in lines if line.startswith("| ")}
    assert "start, this ladder" in table["second"]
    assert " ± " in table["0_plain"]
    with Image.open(out / "ladder.png") as picture:
        assert picture.width > picture.height
    assert "data:image/png;base64," in (out / "ladder.html").read_text()

    # The same again runs nothing; another seed only itself.
    phases.clear()
    assert run(ladder, out, seeds=[0, 1], steps=2) == last
    assert phases == []
    run(ladder, out, seeds=[0, 1, 2], steps=2)
    assert [phase for phase, _ in phases] == ["score", "score"]


def test_minutes_are_as_many_steps_for_all_seeds_as_fit(change, phases, tmp_path, monkeypatch):
    measured = []

    def measure(cfg, *, min_seconds, **_):
        measured.append(min_seconds)
        return 2.5 * len(measured)

    monkeypatch.setattr(job, "measure_step_seconds", measure)
    ladder = change(rungs=[{"config": "0_plain.yaml"}], pretraining=[])
    last = run(ladder, tmp_path / "out", minutes=0.1, seeds=[0, 1])
    assert [r.numbers["steps"] for r in last.rungs[0].row.runs] == [2, 2]
    assert measured == [6.0], "once, and not longer than the training"
    assert last.budget == "0.1 minutes of training a rung and seed"


def test_weights_of_the_pretraining_reach_the_rungs_that_want_them(ladder_file, phases, tmp_path):
    plan = make_ladder_plan(read_ladder(str(ladder_file)), str(tmp_path / "out"), steps=1)
    for _ in climb(plan):
        pass
    trained = [plan.rung(rung).jobs[0] for rung in plan.ladder.rungs]
    weights = str(tmp_path / "pretrained" / "model_final.pth")
    assert [j.config().MODEL.WEIGHTS for j in trained] == ["", weights]
    assert f"Loading {weights}" in Path(trained[1].folder, "log.txt").read_text()
    # Other weights under the same name are another run of the second rung only.
    with open(weights, "ab") as file:
        file.write(b"\0")
    again = [plan.rung(rung).jobs[0].folder for rung in plan.ladder.rungs]
    assert [a == t.folder for a, t in zip(again, trained, strict=True)] == [True, False]


def test_weights_that_the_user_chose_are_not_replaced(ladder_file, tmp_path):
    ladder = read_ladder(str(ladder_file))
    own = make_ladder_plan(ladder, str(tmp_path), overrides=["MODEL.WEIGHTS", "mine.pth"])
    assert own.pretraining() == []
    planned = own.rung(ladder.rungs[1])
    assert planned.jobs[0].config().MODEL.WEIGHTS == "mine.pth"
    assert planned.starts_from == "mine.pth"


def test_a_rung_under_its_gate_is_not_built_upon(change, phases, tmp_path):
    rungs = [{"config": "0_plain.yaml", "gate": {"slots/mBO": 2.0}}, {"config": "1_started.yaml"}]
    ladder = change(rungs=rungs)
    last = run(ladder, tmp_path / "out", steps=1)
    assert last.stopped.startswith("1_started is not climbed because 0_plain below it is not")
    assert "slots/mBO 0." in last.stopped and "under its gate 2" in last.stopped
    assert last.stopped.endswith("give --climb-anyway.")
    assert ("score", "1_started") not in {(p, f.partition("-")[0]) for p, f in phases}
    text = (tmp_path / "out" / "ladder.md").read_text()
    assert "healthy, under its gate" in text
    assert "not climbed |" in text
    assert last.stopped in text
    # Told to go on, it goes on, and the reason stays in the table.
    last = run(ladder, tmp_path / "out", steps=1, climb_anyway=True)
    assert last.stopped == ""
    assert last.rungs[1].row.score("slots/ARI")
    assert "0_plain: slots/mBO" in (tmp_path / "out" / "ladder.md").read_text()


def test_collapsed_slots_are_not_built_upon(ladder_file, phases, tmp_path, monkeypatch):
    from slotseg.engine import slot_health

    finding = slot_health.Finding(slot_health.COLLAPSED, "the slots have become alike")
    monkeypatch.setattr("slotseg.engine.slot_health.diagnose", lambda *_, **__: [finding])
    last = run(read_ladder(str(ladder_file)), tmp_path / "out", steps=1, seeds=[0, 1])
    assert "seed 1: collapsed: the slots have become alike" in last.stopped
    assert last.rungs[0].health.verdict == "collapsed"


def test_a_rung_that_was_not_watched_is_not_built_upon(ladder_file, phases, tmp_path):
    last = run(
        read_ladder(str(ladder_file)),
        tmp_path / "out",
        steps=1,
        overrides=["SLOT_MONITOR.IMAGES", "0"],
    )
    assert "the slot monitor has no verdict" in last.stopped


def test_a_rung_that_fails_stops_the_climb_and_says_why(change, ladder_file, phases, tmp_path):
    broken = ladder_file.parent / "broken.yaml"
    broken.write_text('_BASE_: "0_plain.yaml"\nMODEL: {SLOTS: {IN_FEATURE: "s16"}}\n')
    ladder = change(rungs=[{"config": "broken.yaml"}, {"config": "0_plain.yaml"}], pretraining=[])
    last = run(ladder, tmp_path / "out", steps=1)
    assert "MODEL.SLOTS.IN_FEATURE" in last.stopped
    assert " failed |" in (tmp_path / "out" / "ladder.md").read_text()
    last = run(ladder, tmp_path / "out", steps=1, climb_anyway=True)
    assert last.rungs[1].row.errors == []
    # No rung below has a score to differ from.
    assert last.below(1) is None


def test_an_interrupted_climb_goes_on(ladder_file, phases, tmp_path, monkeypatch):
    ladder = read_ladder(str(ladder_file))
    step = Trainer.run_step

    def power_cut(self):
        if self.iter == 2:
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run_step", power_cut)
        with pytest.raises(KeyboardInterrupt):
            run(ladder, tmp_path / "out", steps=3)
    before = len(phases)
    last = run(ladder, tmp_path / "out", steps=3)
    assert [phase for phase, _ in phases[before:]] == ["score", "measure"] * 2
    assert [rung.row.errors for rung in last.rungs] == [[], []]
    folder = next((tmp_path / "out").glob("0_plain-*/seed0"))
    assert "Training from iteration 2 to 3" in (folder / "log.txt").read_text()


def test_a_failed_pretraining_ends_it(ladder_file, phases, tmp_path):
    start = ladder_file.parent / "start.yaml"
    start.write_text(start.read_text().replace("MAX_ITER: 1", "OPTIMIZER: Nothing"))
    with pytest.raises(CheckpointError, match="pre-training start failed: SOLVER.OPTIMIZER"):
        run(read_ladder(str(ladder_file)), tmp_path / "out", steps=1)
    assert phases == [("train", phases[0][1])]


def test_a_pretraining_of_another_config_is_not_taken(ladder_file, phases, tmp_path):
    ladder = read_ladder(str(ladder_file))
    run(ladder.only(["second"]), tmp_path / "out", steps=1)
    start = ladder_file.parent / "start.yaml"
    start.write_text(start.read_text() + "MODEL: {SLOTS: {NUM_SLOTS: 4}}\n")
    with pytest.raises(ConfigError, match="NUM_SLOTS was 5 and is now 4.*another OUTPUT_DIR"):
        run(ladder.only(["second"]), tmp_path / "out", steps=1)
    # Who does not use it is not disturbed by it.
    assert run(ladder.only(["0_plain"]), tmp_path / "out", steps=1).pretraining == ()


def test_memory_of_a_step_belongs_to_its_size(change, phases, tmp_path, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        job, "training_step_memory_mib", lambda cfg, size: sizes.append(size) or 100.0
    )
    ladder = change(rungs=[{"config": "0_plain.yaml"}], pretraining=[])
    for size in ((64, 96), (64, 96), (64, 128)):
        last = run(ladder, tmp_path / "out", steps=1, memory_size=size)
        assert last.rungs[0].row.number("step_memory_mib") == 100.0
    assert sizes == [(64, 96), (64, 128)]
    assert "memory at 64x128" in (tmp_path / "out" / "ladder.md").read_text()

    def too_much(cfg, size):
        raise MemoryError("no more")

    # What could not be measured is a note, not a fault of the rung.
    monkeypatch.setattr(job, "training_step_memory_mib", too_much)
    last = run(ladder, tmp_path / "out", steps=1, memory_size=(8, 8))
    assert last.rungs[0].health.is_safe
    assert last.rungs[0].notes == ("memory: MemoryError: no more",)


@pytest.fixture
def tool(project_root, monkeypatch):
    """Run tools/ladder.py in this process; returns its exit status."""

    def start(*arguments) -> int:
        monkeypatch.setattr(sys, "argv", ["ladder.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(project_root / "tools" / "ladder.py"), run_name="__main__")
        return stop.value.code or 0

    return start


def test_the_tool_prints_the_table_and_tells_by_its_status(
    tool, ladder_file, phases, tmp_path, capsys
):
    arguments = ("--ladder", ladder_file, "--output", tmp_path / "out", "--steps", "1")
    rest = ("--memory-size", "none", "--speed-images", "1", "--only", "0_plain")
    assert tool(*arguments, *rest, "SOLVER.BASE_LR", "0.001") == 0
    out = capsys.readouterr().out
    assert "| 0_plain | " in out
    assert "0_plain: ARI " in out
    assert tool(*arguments, *rest, "SLOT_MONITOR.IMAGES", "0") == 0, "there is nothing above it"
    assert tool("--ladder", "nowhere.yaml", "--output", tmp_path) == 1
    assert capsys.readouterr().err.startswith("error: nowhere.yaml: cannot be read")
    assert tool(*arguments, "--memory-size", "large") == 2
