"""Which trainings climbing a ladder consists of, and where each lies on disk."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.utils.file_io import PathManager

from slotseg.comparison.identity import config_key, file_name
from slotseg.comparison.plan import Job
from slotseg.config import get_cfg
from slotseg.engine.checkpoint import FINAL
from slotseg.errors import ConfigError
from slotseg.ladder.definition import Ladder, Pretraining, Rung

# Backbones whose weights MODEL.VIT.WEIGHTS names.
_VIT_BACKBONES = ("build_dinov2_backbone", "build_dinov2_fpn_backbone")


@dataclass(frozen=True)
class PretrainingPlan:
    """A training that makes weights.

    Attributes:
        name: for tables.
        config_file: as the user may know it.
        job: in the ``OUTPUT_DIR`` of the config.
        weights: the file that it leaves.
        weights_for: see :class:`slotseg.ladder.definition.Pretraining`.
    """

    name: str
    config_file: str
    job: Job
    weights: str
    weights_for: str


@dataclass(frozen=True)
class RungPlan:
    """A rung and its trainings.

    Attributes:
        rung: from the ladder's file.
        starts_from: where the backbone's weights come from, in words.
        jobs: one a seed.
        memory_job: that measures the memory of a training step; None: nobody asked.
    """

    rung: Rung
    starts_from: str
    jobs: tuple[Job, ...]
    memory_job: Job | None


@dataclass(frozen=True)
class LadderPlan:
    """What is asked for, checked.

    Attributes:
        ladder: the rungs.
        output: folder of all runs but the pre-trainings.
        minutes: of training a rung; None: see ``steps``.
        steps: of training a rung; None without ``minutes``: as each config says.
        seeds: one training each.
        evaluations: in training, equally spaced.
        speed_images: that inference is timed on.
        memory_size: height and width of the image for the memory of a training step; None: not
            measured.
        overrides: ``KEY VALUE ...`` for all rungs.
        command: for the records.
    """

    ladder: Ladder
    output: str
    minutes: float | None
    steps: int | None
    seeds: tuple[int, ...]
    evaluations: int
    speed_images: int
    memory_size: tuple[int, int] | None
    overrides: tuple[Any, ...]
    command: str

    def pretraining(self) -> list[PretrainingPlan]:
        """The trainings before the first rung; those that no rung uses are left out."""
        configs = [self._config(rung) for rung in self.ladder.rungs]
        return [
            self._pretraining(entry)
            for entry in self.ladder.pretraining
            if any(self._takes(cfg, entry) for cfg in configs)
        ]

    def rung(self, rung: Rung) -> RungPlan:
        """Trainings of one rung.

        To be asked for when the pre-training is over: runs that start from other weights are other
        runs.

        Raises:
            ConfigError: see :func:`slotseg.config.get_cfg`.
        """
        neutral = self._config(rung)
        used = [
            self._pretraining(entry)
            for entry in self.ladder.pretraining
            if self._takes(neutral, entry)
        ]
        overrides = [*self.overrides]
        for entry in used:
            overrides += [entry.weights_for, entry.weights]
        cfg = get_cfg(rung.config_file, overrides)
        steps = self.steps
        if self.minutes is None and steps is None:
            steps = cfg.SOLVER.MAX_ITER
        made = [_digest(entry.weights) for entry in used]
        # Where the weights lie does not matter, what they are does.
        key = config_key(
            neutral, "ladder", self.minutes, steps, self.evaluations, self.speed_images, *made
        )
        folder = os.path.join(self.output, f"{file_name(rung.name)}-{key}")

        def job(seed: int, place: str) -> Job:
            return Job(
                name=rung.name,
                config_file=rung.config_file,
                overrides=tuple(overrides),
                seed=seed,
                minutes=self.minutes,
                steps=steps,
                evaluations=self.evaluations,
                weights="",
                trained_in="",
                speed_images=self.speed_images,
                folder=os.path.join(folder, place),
                budget_file=os.path.join(folder, "budget.json"),
                command=self.command,
                memory_size=self.memory_size,
            )

        memory_job = None
        if self.memory_size is not None:
            memory_job = job(0, "memory_{}x{}".format(*self.memory_size))
        return RungPlan(
            rung=rung,
            starts_from=_starts_from(cfg, {entry.weights: entry.name for entry in used}),
            jobs=tuple(job(seed, f"seed{seed}") for seed in self.seeds),
            memory_job=memory_job,
        )

    def _takes(self, cfg: CfgNode, entry: Pretraining) -> bool:
        """Whether a rung has a file in that place that nobody chose by an override."""
        value = _value(cfg, entry.weights_for)
        chosen = entry.weights_for in self.overrides[::2]
        return bool(value) and value != "hub" and not chosen

    def _config(self, rung: Rung) -> CfgNode:
        return get_cfg(rung.config_file, self.overrides)

    def _pretraining(self, entry: Pretraining) -> PretrainingPlan:
        cfg = get_cfg(entry.config_file)
        folder = os.path.abspath(cfg.OUTPUT_DIR)
        job = Job(
            name=entry.name,
            config_file=entry.config_file,
            overrides=(),
            seed=cfg.SEED,
            minutes=None,
            evaluations=1,
            weights="",
            trained_in="",
            speed_images=1,
            folder=folder,
            budget_file="",
            command=self.command,
        )
        weights = os.path.join(folder, f"{FINAL}.pth")
        return PretrainingPlan(entry.name, entry.config_file, job, weights, entry.weights_for)


def make_ladder_plan(
    ladder: Ladder,
    output: str,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    seeds: Sequence[int] = (0,),
    evaluations: int = 1,
    speed_images: int = 10,
    memory_size: tuple[int, int] | None = None,
    overrides: Sequence[Any] = (),
    command: str = "",
) -> LadderPlan:
    """Check what is asked for, before anything runs.

    Args:
        ladder: from :func:`slotseg.ladder.definition.read_ladder`.
        output: folder; a rung's own folder in it is named after the rung and a hash of its config
            and of the weights that it starts from, so that a changed config is a new run.
        minutes: train every rung for this long. Excludes ``steps``.
        steps: train every rung for so many steps. With neither: as each config says.
        seeds: one training each.
        evaluations: in training, the last one at its end.
        speed_images: that inference is timed on.
        memory_size: height and width; None: the memory of a training step is not measured.
        overrides: ``KEY VALUE ...`` for all rungs, not for the pre-training.
        command: for the records.

    Raises:
        ConfigError: a config that cannot be read; numbers that do not fit together; rungs with
            different data, which no ladder may compare.
    """
    if minutes is not None and steps is not None:
        raise ConfigError("--minutes and --steps exclude each other")
    if minutes is not None and not 0 < minutes < math.inf:
        raise ConfigError(f"--minutes: must be positive, got {minutes:g}")
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ConfigError(f"--seeds: must be different numbers from 0 on, got {list(seeds)}")
    counts = {"--steps": steps, "--evaluations": evaluations, "--speed-images": speed_images}
    for flag, value in counts.items():
        if value is not None and value < 1:
            raise ConfigError(f"{flag}: must be at least 1, got {value}")
    if memory_size is not None and min(memory_size) < 1:
        raise ConfigError("--memory-size: expected HEIGHTxWIDTH in pixels, such as 512x1024")
    plan = LadderPlan(
        ladder=ladder,
        output=os.path.abspath(output),
        minutes=minutes,
        steps=steps,
        seeds=tuple(seeds),
        evaluations=evaluations,
        speed_images=speed_images,
        memory_size=memory_size,
        overrides=tuple(overrides),
        command=command,
    )
    _check_data(plan)
    for entry in ladder.pretraining:
        _value(get_cfg(), entry.weights_for)
        get_cfg(entry.config_file)
    return plan


def _check_data(plan: LadderPlan) -> None:
    """All rungs are trained and scored on the same sets, which are registered."""
    found = {}
    for rung in plan.ladder.rungs:
        cfg = get_cfg(rung.config_file, plan.overrides)
        found[rung.name] = (tuple(cfg.DATASETS.TRAIN), tuple(cfg.DATASETS.TEST))
    lowest, sets = next(iter(found.items()))
    for name, others in found.items():
        if others != sets:
            raise ConfigError(
                f"DATASETS differ: {lowest} has {sets}, {name} has {others}; a ladder compares "
                "rungs on the same data"
            )
    if len(sets[1]) != 1:
        raise ConfigError(f"DATASETS.TEST: a ladder needs one set, got {list(sets[1])}")
    for name in (*sets[0], *sets[1]):
        if name not in DatasetCatalog:
            raise ConfigError(f"no data set {name!r} is registered; see datasets/README.md")


def _value(cfg: CfgNode, key: str) -> Any:
    for name in key.split("."):
        if not isinstance(cfg, CfgNode) or name not in cfg:
            raise ConfigError(f"weights_for: unknown config key {key}")
        cfg = cfg[name]
    return cfg


def _starts_from(cfg: CfgNode, made: dict[str, str]) -> str:
    """Where the backbone's weights come from, in words; ``made`` names the ladder's own files."""
    vit = cfg.MODEL.BACKBONE.NAME in _VIT_BACKBONES
    weights = (cfg.MODEL.VIT.WEIGHTS if vit else "") or cfg.MODEL.WEIGHTS
    if not weights:
        return "random"
    if weights == "hub":
        return f"hub: {cfg.MODEL.VIT.NAME}"
    return f"{made[weights]}, this ladder" if weights in made else os.path.basename(weights)


def _digest(path: str) -> str:
    """Of a file's content; empty while there is none."""
    if not PathManager.isfile(path):
        return ""
    with PathManager.open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
