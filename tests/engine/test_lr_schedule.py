"""Learning rates against hand-computed values and Detectron2's own schedules."""

import math

import pytest
import torch
from detectron2.projects.deeplab import build_lr_scheduler as build_deeplab_scheduler
from detectron2.solver import build_lr_scheduler as build_detectron2_scheduler

from slotseg.config import get_cfg
from slotseg.engine.lr_schedule import build_lr_schedule, lr_multiplier
from slotseg.errors import ConfigError


def solver(name, *overrides):
    return get_cfg(None, ["SOLVER.LR_SCHEDULER_NAME", name, *overrides])


def one_weight(lr=0.5):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def rates(cfg, steps):
    optimizer = one_weight(cfg.SOLVER.BASE_LR)
    schedule = build_lr_schedule(cfg, optimizer)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_halving_as_slot_attention_was_trained():
    cfg = solver(
        "WarmupHalvingLR",
        *("SOLVER.BASE_LR", 4e-4, "SOLVER.WARMUP_ITERS", 4, "SOLVER.WARMUP_FACTOR", 0.0),
        *("SOLVER.HALVING_PERIOD", 8, "SOLVER.MAX_ITER", 100),
    )
    seen = rates(cfg, 17)
    assert seen[0] == 0.0
    assert seen[1] == pytest.approx(4e-4 * (1 / 4) * 0.5 ** (1 / 8), rel=1e-12)
    assert seen[4] == pytest.approx(4e-4 * 0.5**0.5, rel=1e-12)
    assert seen[8] == pytest.approx(2e-4, rel=1e-12)
    assert seen[16] == pytest.approx(1e-4, rel=1e-12)


def test_cosine():
    cfg = solver(
        "WarmupCosineLR",
        *("SOLVER.BASE_LR", 1.0, "SOLVER.WARMUP_ITERS", 2, "SOLVER.WARMUP_FACTOR", 0.1),
        *("SOLVER.MAX_ITER", 8),
    )
    seen = rates(cfg, 10)
    assert seen[0] == pytest.approx(0.1)
    at_two = 0.5 * (1 + math.cos(math.pi / 4))
    assert seen[1] == pytest.approx((0.1 + at_two) / 2)
    assert seen[2] == pytest.approx(at_two)
    assert seen[4] == pytest.approx(0.5)
    assert seen[7] == pytest.approx(0.5 * (1 + math.cos(math.pi * 7 / 8)))
    assert seen[8] == seen[9] == 0.0


def test_steps():
    cfg = solver(
        "WarmupMultiStepLR",
        *("SOLVER.BASE_LR", 1.0, "SOLVER.WARMUP_ITERS", 2, "SOLVER.WARMUP_FACTOR", 0.5),
        *("SOLVER.STEPS", (4, 6), "SOLVER.GAMMA", 0.1, "SOLVER.MAX_ITER", 8),
    )
    assert rates(cfg, 8) == pytest.approx([0.5, 0.75, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_poly():
    cfg = solver(
        "WarmupPolyLR",
        *("SOLVER.BASE_LR", 2.0, "SOLVER.WARMUP_ITERS", 2, "SOLVER.WARMUP_FACTOR", 0.5),
        *("SOLVER.MAX_ITER", 8, "SOLVER.POLY_LR_POWER", 2.0),
        *("SOLVER.POLY_LR_CONSTANT_ENDING", 0.1),
    )
    left = [1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8]
    expected = [2 * x**2 for x in left]
    expected[0] *= 0.5
    expected[1] *= 0.75
    # (2 / 8) ** 2 is below the ending already, and so is all after the last iteration.
    assert rates(cfg, 11) == pytest.approx([*expected, *[0.2] * 5])


@pytest.mark.parametrize("ending", [0.0, 0.2])
@pytest.mark.parametrize("method", ["linear", "constant"])
@pytest.mark.parametrize("warmup", [0, 7])
def test_poly_same_as_deeplab(ending, method, warmup):
    cfg = solver(
        "WarmupPolyLR",
        *("SOLVER.WARMUP_METHOD", method, "SOLVER.WARMUP_ITERS", warmup),
        *("SOLVER.WARMUP_FACTOR", 0.01, "SOLVER.MAX_ITER", 40),
        *("SOLVER.POLY_LR_CONSTANT_ENDING", ending),
    )
    optimizer = one_weight(cfg.SOLVER.BASE_LR)
    reference = build_deeplab_scheduler(cfg, optimizer)
    expected = []
    for _ in range(40):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert rates(cfg, 40) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["WarmupCosineLR", "WarmupMultiStepLR"])
@pytest.mark.parametrize("method", ["linear", "constant"])
@pytest.mark.parametrize("warmup", [0, 7, 50])
def test_same_as_detectron2(name, method, warmup):
    cfg = solver(
        name,
        *("SOLVER.WARMUP_METHOD", method, "SOLVER.WARMUP_ITERS", warmup),
        *("SOLVER.WARMUP_FACTOR", 0.01, "SOLVER.MAX_ITER", 40, "SOLVER.STEPS", (20, 30)),
    )
    optimizer = one_weight(cfg.SOLVER.BASE_LR)
    reference = build_detectron2_scheduler(cfg, optimizer)
    expected = []
    for _ in range(40):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert rates(cfg, 40) == pytest.approx(expected, rel=1e-9)


def test_state_is_the_iteration_and_follows_a_new_config():
    options = ("SOLVER.WARMUP_ITERS", 0, "SOLVER.HALVING_PERIOD", 10, "SOLVER.BASE_LR", 1.0)
    cfg = solver("WarmupHalvingLR", *options)
    optimizer = one_weight(1.0)
    schedule = build_lr_schedule(cfg, optimizer)
    for _ in range(20):
        optimizer.step()
        schedule.step()
    assert schedule.state_dict() == {"iteration": 20}
    other = one_weight(2.0)
    resumed = build_lr_schedule(cfg, other)
    resumed.load_state_dict(schedule.state_dict())
    assert other.param_groups[0]["lr"] == resumed.get_last_lr()[0] == 0.5
    other.step()
    resumed.step()
    assert other.param_groups[0]["lr"] == pytest.approx(2.0 * 0.5**2.1)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (("SOLVER.LR_SCHEDULER_NAME", "Cosine"), "SOLVER.LR_SCHEDULER_NAME"),
        (("SOLVER.WARMUP_METHOD", "slow"), "SOLVER.WARMUP_METHOD"),
        (("SOLVER.MAX_ITER", 0), "SOLVER.MAX_ITER"),
        (("SOLVER.STEPS", (5, 3)), "SOLVER.STEPS"),
        (
            ("SOLVER.LR_SCHEDULER_NAME", "WarmupPolyLR", "SOLVER.POLY_LR_POWER", 0.0),
            "SOLVER.POLY_LR_POWER",
        ),
        (
            ("SOLVER.LR_SCHEDULER_NAME", "WarmupPolyLR", "SOLVER.POLY_LR_CONSTANT_ENDING", 1.0),
            "SOLVER.POLY_LR_CONSTANT_ENDING",
        ),
        (
            ("SOLVER.LR_SCHEDULER_NAME", "WarmupHalvingLR", "SOLVER.HALVING_PERIOD", 0),
            "SOLVER.HALVING_PERIOD",
        ),
    ],
)
def test_values_that_make_no_schedule(overrides, key):
    with pytest.raises(ConfigError, match=f"^{key}:"):
        lr_multiplier(get_cfg(None, overrides))
