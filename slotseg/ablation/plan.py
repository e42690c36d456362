"""Which trainings an ablation consists of, and where each lies on disk."""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from slotseg.ablation.definition import Study, Variant
from slotseg.comparison.identity import file_name, lasting_key, require_same_defaults
from slotseg.comparison.plan import Job
from slotseg.config import get_cfg
from slotseg.engine import clocks
from slotseg.engine.defaults import available_device
from slotseg.errors import ConfigError

# Of a job, see slotseg/comparison/job.py: train and score.
PHASE = "score"


@dataclass(frozen=True)
class Trial:
    """A variant at one value of the curve, or as it is.

    Attributes:
        variant: of the study.
        value: of the curve's key; None: the study has no curve.
        jobs: one a seed.
    """

    variant: Variant
    value: float | None
    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class StudyPlan:
    """What is asked for, checked.

    Attributes:
        study: from its file.
        trials: value by value, the variants in their order.
        jobs: the first seed of all trials, then the next one: a study that is stopped has
            something of all.
        dataset: that all are scored on.
        train_datasets: of all trials together.
        output: folder of all runs.
        seeds: one training each.
        minutes: of training; None: see ``steps``.
        steps: of training; None without ``minutes``: as each config says.
        clock: of the minutes, see :func:`slotseg.engine.clocks.clock`.
        evaluations: in training, equally spaced.
        overrides: ``KEY VALUE ...`` for all, on top of the file's.
        command: for the records.
    """

    study: Study
    trials: tuple[Trial, ...]
    jobs: tuple[Job, ...]
    dataset: str
    train_datasets: tuple[str, ...]
    output: str
    seeds: tuple[int, ...]
    minutes: float | None
    steps: int | None
    clock: str
    evaluations: int
    overrides: tuple[Any, ...]
    command: str

    @property
    def budget(self) -> str:
        """How long each training is, in words."""
        if self.minutes is not None:
            unit = "processor minutes" if self.clock == clocks.PROCESSOR else "minutes"
            return f"each trained for {self.minutes:g} {unit}"
        if self.steps is not None:
            return f"each trained for {self.steps} steps"
        return "each trained as its config says"


def make_study_plan(
    study: Study,
    output: str,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    clock: str = clocks.WALL,
    seeds: Sequence[int] = (0,),
    evaluations: int = 1,
    overrides: Sequence[Any] = (),
    command: str = "",
) -> StudyPlan:
    """Check what is asked for, before anything runs.

    Args:
        study: from :func:`slotseg.ablation.definition.read_study`.
        output: folder; a run's own folder in it is named after the variant and a hash of the
            version and of what its config changes, so that a changed config is a new run, and a
            variant that has only got another name finds its old one.
        minutes: train every variant for this long. Excludes ``steps``.
        steps: train every variant for so many steps. With neither: ``SOLVER.MAX_ITER`` of each.
        clock: of the minutes: "wall", or "processor" for a machine that is shared.
        seeds: one training each; the seeds pair a variant's runs with those of the reference.
        evaluations: in training, the last one at its end.
        overrides: ``KEY VALUE ...`` for all, on top of everything that the file says.
        command: for the records.

    Raises:
        ConfigError: a config that cannot be read; two variants that are the same training; variants
            that are scored on different data; numbers that do not fit together; a run in
            ``output`` whose options have other defaults by now.
    """
    _check_numbers(minutes, steps, clock, seeds, evaluations)
    # By itself, so that an error in this file is told as one of this file.
    get_cfg(study.config_file)
    output = os.path.abspath(output)
    configs: list[tuple[str, CfgNode]] = []
    trials = []
    for value in study.curve.values if study.curve else (None,):
        for variant in study.variants:
            own = _all_overrides(study, variant, value, overrides)
            place = f"{study.path}: variant {variant.name!r}"
            place += "" if value is None else f" at {value:g}"
            cfg = _config(study, own, place)
            _require_other(configs, place, cfg)
            _require_clock(clock, cfg, place)
            configs.append((place, cfg))
            settings = [minutes, cfg.SOLVER.MAX_ITER if steps is None else steps, evaluations]
            key = lasting_key(cfg, *settings, clock)
            name = variant.name if value is None else f"{variant.name} {value:g}"
            folder = _folder(output, name, key)
            jobs = tuple(
                Job(
                    name=name,
                    config_file=study.config_file,
                    overrides=tuple(own),
                    seed=seed,
                    minutes=minutes,
                    evaluations=evaluations,
                    weights="",
                    trained_in="",
                    speed_images=1,
                    folder=os.path.join(folder, f"seed{seed}"),
                    budget_file=os.path.join(folder, "budget.json"),
                    command=command,
                    steps=None if minutes is not None else settings[1],
                    clock=clock,
                )
                for seed in seeds
            )
            for job in jobs:
                require_same_defaults(job.folder, cfg)
            trials.append(Trial(variant, value, jobs))
    return StudyPlan(
        study=study,
        trials=tuple(trials),
        jobs=tuple(job for i in range(len(seeds)) for job in (t.jobs[i] for t in trials)),
        dataset=_common_test_set(configs),
        train_datasets=tuple(dict.fromkeys(d for _, cfg in configs for d in cfg.DATASETS.TRAIN)),
        output=output,
        seeds=tuple(seeds),
        minutes=minutes,
        steps=steps,
        clock=clock,
        evaluations=evaluations,
        overrides=tuple(overrides),
        command=command,
    )


def _check_numbers(
    minutes: float | None, steps: int | None, clock: str, seeds: Sequence[int], evaluations: int
) -> None:
    clocks.clock(clock)
    if minutes is not None and steps is not None:
        raise ConfigError("--train-minutes and --steps exclude each other")
    if minutes is not None and not 0 < minutes < math.inf:
        raise ConfigError(f"--train-minutes: must be positive, got {minutes:g}")
    if steps is not None and steps < 1:
        raise ConfigError(f"--steps: must be at least 1, got {steps}")
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ConfigError(f"--seeds: must be different numbers from 0 on, got {list(seeds)}")
    if evaluations < 1:
        raise ConfigError(f"--evaluations: must be at least 1, got {evaluations}")


def _all_overrides(
    study: Study, variant: Variant, value: float | None, overrides: Sequence[Any]
) -> list[Any]:
    """``KEY VALUE ...`` of one trial; what is said later counts."""
    settings = study.settings | variant.settings
    if study.curve and study.curve.key in settings:
        raise ConfigError(
            f"{study.path}: variant {variant.name!r}: sets {study.curve.key}, which is the curve's"
        )
    if study.curve:
        settings |= {study.curve.key: value}
    return [*(part for pair in settings.items() for part in pair), *overrides]


def _config(study: Study, overrides: Sequence[Any], place: str) -> CfgNode:
    try:
        return get_cfg(study.config_file, overrides)
    except ConfigError as error:
        raise ConfigError(f"{place}: {str(error).removeprefix('the command line: ')}") from error


def _require_other(configs: Sequence[tuple[str, CfgNode]], place: str, cfg: CfgNode) -> None:
    """Two names for one training would cost time and show a difference where there is none."""
    for other, same in configs:
        if same == cfg:
            raise ConfigError(
                f"{place}: its overrides leave the same training as {other.partition(': ')[2]}; "
                "change one of them or take it out"
            )


def _require_clock(clock: str, cfg: CfgNode, place: str) -> None:
    if clock == clocks.PROCESSOR and available_device(cfg.MODEL.DEVICE) != "cpu":
        raise ConfigError(
            f"--clock processor: does not count what a GPU does, and {place} runs on "
            f"{cfg.MODEL.DEVICE}; set MODEL.DEVICE cpu, or give --clock wall"
        )


def _common_test_set(configs: Sequence[tuple[str, CfgNode]]) -> str:
    (first, cfg), *_ = configs
    test = tuple(cfg.DATASETS.TEST)
    if len(test) != 1:
        raise ConfigError(f"{first}: DATASETS.TEST: a study needs one set, got {list(test)}")
    for place, other in configs:
        if tuple(other.DATASETS.TEST) != test:
            raise ConfigError(
                f"{place}: is scored on {list(other.DATASETS.TEST)}, but others on {list(test)}"
            )
        for name in (*other.DATASETS.TRAIN, *test):
            if name not in DatasetCatalog:
                raise ConfigError(
                    f"{place}: no data set {name!r} is registered; see datasets/README.md"
                )
    return test[0]


def _folder(output: str, name: str, key: str) -> str:
    """Of all seeds of a trial: the one of this key that is there, whatever it is called."""
    found = sorted(glob.glob(os.path.join(glob.escape(output), f"*-{key}")))
    return found[0] if found else os.path.join(output, f"{file_name(name)}-{key}")
