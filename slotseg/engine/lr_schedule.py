"""Learning rates as pure functions of the iteration."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

import torch
from detectron2.config import CfgNode
from torch.optim.lr_scheduler import LambdaLR

from slotseg.errors import ConfigError

Multiplier = Callable[[int], float]


class IterationLR(LambdaLR):
    """``lr = base_lr * multiplier(iteration)``, stepped once an iteration.

    The whole state is the iteration. A resumed run whose config has another ``BASE_LR``,
    ``MAX_ITER`` or schedule therefore follows the new config from there on.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, multiplier: Multiplier) -> None:
        super().__init__(optimizer, multiplier)

    def state_dict(self) -> dict[str, Any]:
        """``{"iteration": steps taken}``."""
        return {"iteration": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to the saved iteration and set the learning rates that belong to it."""
        self.last_epoch = int(state_dict["iteration"])
        multipliers = [multiplier(self.last_epoch) for multiplier in self.lr_lambdas]
        self._last_lr = [b * m for b, m in zip(self.base_lrs, multipliers, strict=True)]
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = lr


def build_lr_schedule(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> IterationLR:
    """The schedule that ``SOLVER.LR_SCHEDULER_NAME`` names.

    With t the iteration from 0, T = ``MAX_ITER``, W = min(``WARMUP_ITERS``, T) and
    F = ``WARMUP_FACTOR``, the base rate is multiplied by

    * ``WarmupCosineLR``: ``(1 + cos(pi t / T)) / 2``, as Detectron2;
    * ``WarmupMultiStepLR``: ``GAMMA ** (number of STEPS <= t)``, as Detectron2;
    * ``WarmupPolyLR``: ``max((1 - t / T) ** POLY_LR_POWER, POLY_LR_CONSTANT_ENDING)``, as the
      DeepLab projects of Detectron2 (Chen et al. 2017, section 4.1.1);
    * ``WarmupHalvingLR``: ``0.5 ** (t / HALVING_PERIOD)``, as Slot Attention was trained
      (Locatello et al. 2020).

    While t < W the first two go from F times their first value to their value at W on a straight
    line (``WARMUP_METHOD`` linear), or stay at F (constant), as in Detectron2. The others are
    multiplied by the warm-up, ``F + (1 - F) t / W`` or F, as published (Slot Attention with F = 0).

    Raises:
        ConfigError: an unknown name or method, or values that make no schedule.
    """
    return IterationLR(optimizer, lr_multiplier(cfg))


def lr_multiplier(cfg: CfgNode) -> Multiplier:
    """The factor on the base learning rate; see :func:`build_lr_schedule`."""
    solver = cfg.SOLVER
    if solver.MAX_ITER < 1:
        raise ConfigError(f"SOLVER.MAX_ITER: must be at least 1, got {solver.MAX_ITER}")
    if solver.WARMUP_METHOD not in ("linear", "constant"):
        raise ConfigError(
            f"SOLVER.WARMUP_METHOD: unknown method {solver.WARMUP_METHOD!r}; "
            "choose linear or constant"
        )
    name = solver.LR_SCHEDULER_NAME
    if name == "WarmupCosineLR":
        return _warm_up_to(_cosine(solver.MAX_ITER), solver)
    if name == "WarmupMultiStepLR":
        return _warm_up_to(_steps(solver.STEPS, solver.GAMMA), solver)
    if name == "WarmupPolyLR":
        poly = _poly(solver.MAX_ITER, solver.POLY_LR_POWER, solver.POLY_LR_CONSTANT_ENDING)
        return _warm_up_times(poly, solver)
    if name == "WarmupHalvingLR":
        return _warm_up_times(_halving(solver.HALVING_PERIOD), solver)
    raise ConfigError(
        f"SOLVER.LR_SCHEDULER_NAME: unknown schedule {name!r}; choose WarmupCosineLR, "
        "WarmupMultiStepLR, WarmupPolyLR or WarmupHalvingLR"
    )


def _cosine(max_iter: int) -> Multiplier:
    # Past the end the rate stays at 0 instead of climbing back up the cosine.
    return lambda t: 0.5 * (1.0 + math.cos(math.pi * min(t, max_iter) / max_iter))


def _steps(steps: tuple[int, ...], gamma: float) -> Multiplier:
    if list(steps) != sorted(steps):
        raise ConfigError(f"SOLVER.STEPS: must be increasing, got {tuple(steps)}")
    return lambda t: gamma ** bisect_right(steps, t)


def _poly(max_iter: int, power: float, ending: float) -> Multiplier:
    if power <= 0.0:
        raise ConfigError(f"SOLVER.POLY_LR_POWER: must be above 0, got {power}")
    if not 0.0 <= ending < 1.0:
        raise ConfigError(
            f"SOLVER.POLY_LR_CONSTANT_ENDING: must be at least 0 and below 1, got {ending}"
        )
    # Past the end the base of the power would be negative.
    return lambda t: max((1.0 - min(t, max_iter) / max_iter) ** power, ending)


def _halving(period: int) -> Multiplier:
    if period < 1:
        raise ConfigError(f"SOLVER.HALVING_PERIOD: must be at least 1, got {period}")
    return lambda t: 0.5 ** (t / period)


def _warm_up_to(decay: Multiplier, solver: CfgNode) -> Multiplier:
    length = min(solver.WARMUP_ITERS, solver.MAX_ITER)
    start = solver.WARMUP_FACTOR * decay(0)
    end = decay(length) if solver.WARMUP_METHOD == "linear" else start

    def multiplier(t: int) -> float:
        return start + (end - start) * t / length if t < length else decay(t)

    return multiplier


def _warm_up_times(decay: Multiplier, solver: CfgNode) -> Multiplier:
    length = min(solver.WARMUP_ITERS, solver.MAX_ITER)
    factor = solver.WARMUP_FACTOR
    slope = (1.0 - factor) if solver.WARMUP_METHOD == "linear" else 0.0

    def multiplier(t: int) -> float:
        return decay(t) * (factor + slope * t / length if t < length else 1.0)

    return multiplier
