"""Training for a given time: how long a step takes here, and a schedule that fits."""

from __future__ import annotations

import functools
import math
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress

from detectron2.config import CfgNode
from detectron2.engine.train_loop import HookBase

from slotseg.engine.clocks import WALL, Clock, clock
from slotseg.engine.rng import forked_rng
from slotseg.engine.trainer import Trainer
from slotseg.errors import ConfigError

# Steps that are averaged before the median is taken: batches that several data workers made come
# in bursts, so that single steps are either much too short or much too long.
_BLOCK = 4
_BLOCKS = 5
# The first steps compile kernels, fill caches and find batches that were made before them.
_WARM_UP_STEPS = 3
_WARM_UP_SHARE = 0.1
# Of training that a kill may undo: long trainings save this often, short ones ten times.
_SAVED_SECONDS = 120.0
_LEAST_SAVES = 10
# Iterations that keep their place in a training of another length; 0 stays 0.
SCALED = (
    "SEMI.START",
    "SEMI.RAMP",
    "MIXING.MOSAIC.START",
    "MIXING.MOSAIC.RAMP",
    "MIXING.MOSAIC.END",
    "MIXING.CUTMIX.START",
    "MIXING.CUTMIX.RAMP",
    "MIXING.CUTMIX.END",
    "CURRICULUM.END_ITER",
    "CURRICULUM.PERIOD",
    "LOSSES.UNCERTAINTY.WARM_UP",
)


def measure_step_seconds(
    cfg: CfgNode, *, min_seconds: float = 15.0, max_seconds: float = 60.0, clock_name: str = WALL
) -> float:
    """Seconds of a training step of this config on this machine, now.

    Trains a model of its own for a few steps, waiting for data included, and throws it away:
    nothing is left in ``OUTPUT_DIR``, and no random number of the caller is drawn. Hooks that
    change batches or follow the weights run too. Steps before ``SEMI.START``, in which no teacher
    labels images, are measured by themselves and count by their share of ``SOLVER.MAX_ITER``.

    Args:
        cfg: of the training.
        min_seconds: go on for at least this long, so that short disturbances even out. Of each
            kind of step.
        max_seconds: end of the measurement, at the first step after it; at least one step is
            measured. Of each kind of step.
        clock_name: of all these seconds, see :func:`slotseg.engine.clocks.clock`. The processor's
            hardly depends on what else runs on the machine; the wall's does.

    Returns:
        Median over blocks of consecutive steps of the mean of a block.
    """
    return sum(
        share * _measure(probe_cfg, min_seconds, max_seconds, clock_name)
        for share, probe_cfg in _kinds_of_steps(cfg)
    )


def _kinds_of_steps(cfg: CfgNode) -> list[tuple[float, CfgNode]]:
    """Share of a training's steps, and a config that begins with such steps and goes on so."""
    full = cfg.clone()
    full.defrost()
    full.SEMI.START = full.SEMI.RAMP = 0
    for operation in (full.MIXING.MOSAIC, full.MIXING.CUTMIX):
        operation.START = operation.RAMP = operation.END = 0
    labels = cfg.MEAN_TEACHER.ENABLED and cfg.SEMI.IMS_PER_BATCH > 0 and cfg.SEMI.WEIGHT > 0
    before = min(1.0, cfg.SEMI.START / cfg.SOLVER.MAX_ITER) if labels else 0.0
    if not before:
        return [(1.0, full)]
    without = full.clone()
    without.SEMI.START = sys.maxsize
    return [(before, without), *([(1.0 - before, full)] if before < 1.0 else [])]


def _measure(cfg: CfgNode, min_seconds: float, max_seconds: float, clock_name: str) -> float:
    with tempfile.TemporaryDirectory(prefix="step_time") as folder, forked_rng(max(cfg.SEED, 0)):
        probe_cfg = cfg.clone()
        probe_cfg.defrost()
        probe_cfg.OUTPUT_DIR = folder
        probe = _Probe(probe_cfg, min_seconds, max_seconds, clock(clock_name))
        probe.resume_or_load(resume=False)
        with suppress(_EnoughError):
            probe.train()
        return typical_step_seconds(probe.times.seconds)


def typical_step_seconds(seconds: Sequence[float], block: int = _BLOCK) -> float:
    """Median of the means of ``block`` consecutive steps; an incomplete last block is left out."""
    if len(seconds) < block:
        return statistics.fmean(seconds)
    starts = range(0, len(seconds) - block + 1, block)
    return statistics.median(statistics.fmean(seconds[start : start + block]) for start in starts)


def fit_to_time(
    cfg: CfgNode, minutes: float, step_seconds: float, *, evaluations: int = 1
) -> CfgNode:
    """A copy of ``cfg`` whose training steps take ``minutes`` and whose schedule ends there.

    ``SOLVER.MAX_ITER`` follows from the time of a step. ``STEPS`` and ``HALVING_PERIOD`` keep their
    place relative to it, so that the learning rate decays as far as it was meant to; warm-up is
    at most a tenth. What begins, grows or ends at an iteration (pseudo labels, mixed images, the
    curriculum) keeps its place too. Evaluation and saving are not part of the time. A checkpoint
    is saved ten times, in long trainings every two minutes.

    Args:
        cfg: of the training.
        minutes: for all training steps, on the clock of ``step_seconds``.
        step_seconds: see :func:`measure_step_seconds`.
        evaluations: equally spaced in training, the last one at its end.

    Raises:
        ConfigError: a time that is not positive, or too short for a step.
    """
    if not minutes > 0:
        raise ConfigError(f"training time: must be positive, got {minutes} minutes")
    steps = int(minutes * 60 / step_seconds)
    if steps < 1:
        raise ConfigError(
            f"training time: {minutes:g} minutes are less than one step, which takes "
            f"{step_seconds:.1f} s here; give more time or lower SOLVER.IMS_PER_BATCH"
        )
    fitted = fit_to_steps(cfg, steps, evaluations=evaluations)
    fitted.defrost()
    lost = math.ceil(_SAVED_SECONDS / step_seconds)
    fitted.SOLVER.CHECKPOINT_PERIOD = min(fitted.SOLVER.CHECKPOINT_PERIOD, lost)
    fitted.freeze()
    return fitted


def fit_to_steps(cfg: CfgNode, steps: int, *, evaluations: int = 1) -> CfgNode:
    """A copy of ``cfg`` that trains for ``steps``, its schedule as in :func:`fit_to_time`.

    Args:
        cfg: of the training.
        steps: ``SOLVER.MAX_ITER`` of the copy.
        evaluations: equally spaced in training, the last one at its end.

    Raises:
        ConfigError: less than one step or one evaluation.
    """
    if steps < 1:
        raise ConfigError(f"training steps: must be at least 1, got {steps}")
    if evaluations < 1:
        raise ConfigError(f"evaluations: must be at least 1, got {evaluations}")
    fitted = cfg.clone()
    fitted.defrost()
    solver = fitted.SOLVER
    scale = steps / solver.MAX_ITER
    solver.MAX_ITER = steps
    solver.STEPS = tuple(round(step * scale) for step in solver.STEPS)
    solver.HALVING_PERIOD = max(1, round(solver.HALVING_PERIOD * scale))
    for name in SCALED:
        *path, key = name.split(".")
        node = functools.reduce(lambda parent, part: parent[part], path, fitted)
        node[key] = _scaled(node[key], scale)
    solver.WARMUP_ITERS = min(solver.WARMUP_ITERS, int(steps * _WARM_UP_SHARE))
    # The last state is enough to go on from, and a full disk of states is not.
    solver.CHECKPOINT_PERIOD = max(1, -(-steps // _LEAST_SAVES))
    fitted.TEST.EVAL_PERIOD = -(-steps // evaluations)
    fitted.freeze()
    return fitted


def _scaled(iterations: int, scale: float) -> int:
    """Rounded, but never to 0, which has another meaning."""
    return round(iterations * scale) or (iterations > 0) - (iterations < 0)


class _EnoughError(Exception):
    """Ends the measurement."""


class _StepTimes(HookBase):
    """Seconds of every step after the warm-up."""

    def __init__(
        self, warm_up: int, steps: int, min_seconds: float, max_seconds: float, now: Clock
    ) -> None:
        self.seconds: list[float] = []
        self._now = now
        self._warm_up = warm_up
        self._steps = steps
        self._min_seconds = min_seconds
        self._max_seconds = max_seconds
        self._first = self._began = 0.0

    def before_train(self) -> None:
        self._first = self._now()

    def before_step(self) -> None:
        self._began = self._now()

    def after_step(self) -> None:
        now = self._now()
        elapsed = now - self._first
        late = elapsed > self._max_seconds
        # A step so slow that the time is over at once has to serve, warm or not.
        if self.trainer.iter >= self._warm_up or late:
            self.seconds.append(now - self._began)
        if late or (len(self.seconds) >= self._steps and elapsed >= self._min_seconds):
            raise _EnoughError


class _Probe(Trainer):
    """A trainer that looks at the clock, and does what is part of a step."""

    def __init__(self, cfg: CfgNode, min_seconds: float, max_seconds: float, now: Clock) -> None:
        # Every data worker has two batches ready before the first step.
        warm_up = _WARM_UP_STEPS + 2 * cfg.DATALOADER.NUM_WORKERS
        self.times = _StepTimes(warm_up, _BLOCK * _BLOCKS, min_seconds, max_seconds, now)
        super().__init__(cfg)
        # The clock ends it.
        self.max_iter = sys.maxsize

    def build_hooks(self) -> list[HookBase | None]:
        # Those that score, draw and save are not part of a step.
        part_of_a_step = [hook for hook in super().build_hooks() if hasattr(hook, "after_draw")]
        return [*part_of_a_step, self.times]
