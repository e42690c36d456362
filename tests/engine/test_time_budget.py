"""A schedule that fits into a time, and the measurement of a step."""

from __future__ import annotations

import os

import pytest
import torch
from detectron2.engine.train_loop import HookBase

from slotseg.engine import time_budget
from slotseg.engine.lr_schedule import lr_multiplier
from slotseg.engine.time_budget import fit_to_time, measure_step_seconds, typical_step_seconds
from slotseg.errors import ConfigError


def test_steps_fill_the_time_and_the_rate_decays_to_its_end(tiny_cfg):
    cfg = tiny_cfg("SOLVER.MAX_ITER", 1000, "SOLVER.WARMUP_ITERS", 500)
    fitted = fit_to_time(cfg, 10, 1.5, evaluations=4)
    assert fitted.SOLVER.MAX_ITER == 400
    assert fitted.SOLVER.WARMUP_ITERS == 40
    assert fitted.TEST.EVAL_PERIOD == 100
    assert lr_multiplier(fitted)(399) < 1e-4
    assert cfg.SOLVER.MAX_ITER == 1000


def test_other_schedules_keep_their_shape(tiny_cfg):
    cfg = tiny_cfg(
        "SOLVER.MAX_ITER", 1000, "SOLVER.STEPS", (600, 900), "SOLVER.HALVING_PERIOD", 250,
        "SOLVER.WARMUP_ITERS", 5,
    )  # fmt: skip
    fitted = fit_to_time(cfg, 1, 0.12)
    assert fitted.SOLVER.MAX_ITER == 500
    assert fitted.SOLVER.STEPS == (300, 450)
    assert fitted.SOLVER.HALVING_PERIOD == 125
    assert fitted.SOLVER.WARMUP_ITERS == 5
    assert fitted.TEST.EVAL_PERIOD == 500


def test_what_begins_at_an_iteration_keeps_its_place_in_the_training(tiny_cfg):
    cfg = tiny_cfg(
        "SOLVER.MAX_ITER", 1000, "SEMI.START", 100, "SEMI.RAMP", 1, "MIXING.CUTMIX.END", -200,
        "CURRICULUM.END_ITER", 500, "LOSSES.UNCERTAINTY.WARM_UP", 300,
    )  # fmt: skip
    fitted = fit_to_time(cfg, 1, 0.6)
    assert fitted.SOLVER.MAX_ITER == 100
    # 0 would mean something else than "as soon as possible".
    assert (fitted.SEMI.START, fitted.SEMI.RAMP) == (10, 1)
    assert (fitted.MIXING.CUTMIX.END, fitted.MIXING.MOSAIC.END) == (-20, 0)
    assert fitted.CURRICULUM.END_ITER == 50
    assert fitted.LOSSES.UNCERTAINTY.WARM_UP == 30


def test_steps_with_and_without_a_teachers_labels_count_by_their_share(tiny_cfg, monkeypatch):
    """Steps before the start take 1 s, those after it 3 s."""
    seen = []

    def measured(cfg, *_):
        seen.append((cfg.SEMI.START, cfg.SEMI.RAMP, cfg.MIXING.CUTMIX.START))
        return 3.0 if cfg.SEMI.START == 0 else 1.0

    monkeypatch.setattr(time_budget, "_measure", measured)
    options = [
        "SOLVER.MAX_ITER", 1000, "SEMI.START", 250, "SEMI.RAMP", 10, "SEMI.IMS_PER_BATCH", 2,
        "MIXING.CUTMIX.START", 500,
    ]  # fmt: skip
    cfg = tiny_cfg(*options, "MEAN_TEACHER.ENABLED", True)
    assert measure_step_seconds(cfg) == pytest.approx(0.25 * 1 + 0.75 * 3)
    assert cfg.SEMI.START == 250
    assert all((ramp, start) == (0, 0) for _, ramp, start in seen)
    # Without a teacher all steps are alike.
    assert measure_step_seconds(tiny_cfg(*options)) == 3.0


def test_hooks_that_belong_to_a_step_are_measured_with_it(tiny_cfg, monkeypatch):
    ran = []

    class Acting(HookBase):
        def after_draw(self, batch):
            ran.append("acts")
            return batch

    class Scoring(HookBase):
        def after_step(self):
            pytest.fail("scoring is not part of a step")

    monkeypatch.setattr(time_budget.Trainer, "build_hooks", lambda self: [Acting(), Scoring()])
    measure_step_seconds(tiny_cfg(), max_seconds=0.0)
    assert ran == ["acts"]


def test_a_kill_undoes_two_minutes_at_most(tiny_cfg):
    assert fit_to_time(tiny_cfg(), 60, 1.5).SOLVER.CHECKPOINT_PERIOD == 80
    assert fit_to_time(tiny_cfg(), 5, 1.5).SOLVER.CHECKPOINT_PERIOD == 20


@pytest.mark.parametrize(
    ("minutes", "evaluations", "message"),
    [(0, 1, "must be positive"), (0.01, 1, "less than one step"), (1, 0, "at least 1")],
)
def test_times_that_cannot_work(tiny_cfg, minutes, evaluations, message):
    with pytest.raises(ConfigError, match=message):
        fit_to_time(tiny_cfg(), minutes, 1.0, evaluations=evaluations)


def test_bursts_of_batches_and_single_hiccups_do_not_mislead():
    # Two workers: two batches at once, then a wait.
    assert typical_step_seconds([0.1, 0.5] * 8) == pytest.approx(0.3)
    assert typical_step_seconds([0.2] * 7 + [60.0] + [0.2] * 4) == pytest.approx(0.2)
    assert typical_step_seconds([0.2, 0.4]) == pytest.approx(0.3)


def test_measuring_leaves_nothing_behind(tiny_cfg):
    cfg = tiny_cfg()
    state = torch.get_rng_state()
    assert 1e-4 < measure_step_seconds(cfg, min_seconds=0) < 30
    assert torch.equal(torch.get_rng_state(), state)
    assert not os.path.exists(cfg.OUTPUT_DIR)


def test_steps_are_measured_on_the_clock_that_is_named(tiny_cfg, monkeypatch):
    """A clock that ticks once a look, before and after every step and when it is decided to end."""
    names, ticks = [], iter(range(10_000))
    monkeypatch.setattr(
        time_budget, "clock", lambda name: names.append(name) or (lambda: float(next(ticks)))
    )
    seconds = measure_step_seconds(tiny_cfg(), min_seconds=0, max_seconds=12, clock_name="sun")
    assert names == ["sun"]
    assert seconds == 1


def test_a_slow_step_ends_the_measurement(tiny_cfg, monkeypatch):
    steps = []
    run_step = time_budget.Trainer.run_step
    monkeypatch.setattr(
        time_budget.Trainer, "run_step", lambda self: (steps.append(1), run_step(self))
    )
    assert measure_step_seconds(tiny_cfg(), max_seconds=0.0) > 0
    assert len(steps) == 1
