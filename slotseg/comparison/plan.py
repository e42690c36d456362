"""Which runs a comparison consists of, and where each of them lies on disk."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from slotseg.comparison.identity import file_name, lasting_key, require_same_defaults
from slotseg.config import get_cfg
from slotseg.engine import clocks
from slotseg.engine.checkpoint import BEST
from slotseg.engine.defaults import available_device
from slotseg.errors import ConfigError

# As weights: the model as its config builds it, which may load a pretrained one by itself.
AS_BUILT = "as-built"
# What a comparison does for every job, in this order; see slotseg/comparison/job.py.
PHASES = ("score", "measure")
JOB_FILE = "job.json"


def phase_file(folder: str, phase: str) -> str:
    """Where a phase leaves its result."""
    return os.path.join(folder, f"{phase}.json")


def failure_file(folder: str, phase: str) -> str:
    """Where a phase leaves the reason why it failed."""
    return os.path.join(folder, f"{phase}.failed")


@dataclass(frozen=True)
class Job:
    """One model with one seed: everything that its processes need to know.

    Attributes:
        name: of the model, for tables.
        config_file: YAML file; empty: the defaults.
        overrides: ``KEY VALUE ...`` on top of it.
        seed: of training and of sampled slots.
        minutes: of training; None: no training, the weights are scored, unless ``steps`` says.
        evaluations: in training, equally spaced.
        weights: to score, or :data:`AS_BUILT`; empty with training, or to look for the trained
            weights in ``trained_in``.
        trained_in: ``OUTPUT_DIR`` of the config, where that matters.
        speed_images: that inference is timed on.
        folder: of this run, an ``OUTPUT_DIR``.
        budget_file: where the steps that fit into ``minutes`` are noted, for all seeds.
        command: that asked for it, for the records.
        steps: of training, in place of ``minutes``.
        memory_size: height and width of the image on which the memory of a training step is
            measured; None: it is not.
        clock: of ``minutes``, see :func:`slotseg.engine.clocks.clock`.
    """

    name: str
    config_file: str
    overrides: tuple[Any, ...]
    seed: int
    minutes: float | None
    evaluations: int
    weights: str
    trained_in: str
    speed_images: int
    folder: str
    budget_file: str
    command: str
    steps: int | None = None
    memory_size: tuple[int, int] | None = None
    clock: str = clocks.WALL

    @property
    def trains(self) -> bool:
        """Whether there is something to train before the score."""
        return self.minutes is not None or self.steps is not None

    def config(self) -> CfgNode:
        """The config of this run, before its steps are fitted to the time; not frozen."""
        cfg = get_cfg(self.config_file or None, self.overrides)
        cfg.SEED = self.seed
        cfg.OUTPUT_DIR = self.folder
        return cfg

    def dumps(self) -> str:
        """As JSON text."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def loads(cls, text: str) -> Job:
        """The counterpart of :meth:`dumps`."""
        values = json.loads(text)
        size = values.get("memory_size")
        return cls(
            **{
                **values,
                "overrides": tuple(values["overrides"]),
                "memory_size": tuple(size) if size else None,
            }
        )


@dataclass(frozen=True)
class Plan:
    """A comparison.

    Attributes:
        dataset: that all models are scored on.
        train_datasets: that all models are trained on; empty without training.
        jobs: the first seed of every model, then the next one: a comparison that is stopped has
            something of all models.
        minutes: of training; None: none.
        output: folder of the comparison.
        clock: of the minutes.
        chosen: what was chosen beforehand for each model, in words; see
            :mod:`slotseg.comparison.tuning`.
    """

    dataset: str
    train_datasets: tuple[str, ...]
    jobs: tuple[Job, ...]
    minutes: float | None
    output: str
    clock: str = clocks.WALL
    chosen: tuple[str, ...] = ()


def make_plan(
    configs: Sequence[str],
    output: str,
    *,
    names: Sequence[str] = (),
    minutes: float | None = None,
    weights: Sequence[str] = (),
    dataset: str | None = None,
    train_dataset: str | None = None,
    seeds: Sequence[int] = (0,),
    evaluations: int = 4,
    speed_images: int = 20,
    overrides: Sequence[Any] = (),
    own_overrides: Sequence[Sequence[Any]] = (),
    chosen: Sequence[str] = (),
    clock: str = clocks.WALL,
    command: str = "",
) -> Plan:
    """Check what is asked for, before anything runs.

    Args:
        configs: YAML files, one a model.
        output: folder; a run's own folder in it is named after the model and a hash of what its
            config changes and of its weights, so that a changed config or file is a new run.
        names: one a config; default: the names of the files.
        minutes: train each model for this long. None: score weights.
        weights: one a config; empty, or an empty entry: ``MODEL.WEIGHTS``, or else the trained
            weights in ``OUTPUT_DIR`` of the config. :data:`AS_BUILT` loads nothing.
        dataset: to score on; default: the one that all configs name in ``DATASETS.TEST``.
        train_dataset: to train on; default: what all configs name in ``DATASETS.TRAIN``.
        seeds: one run each.
        evaluations: in training, see :func:`slotseg.engine.time_budget.fit_to_time`.
        speed_images: that inference is timed on.
        overrides: ``KEY VALUE ...`` for all configs.
        own_overrides: one list a config, on top of those.
        chosen: where these come from, in words.
        clock: of the minutes: "wall", or "processor" for a machine that is shared.
        command: for the records.

    Raises:
        ConfigError: a config that cannot be read; numbers that do not fit together; configs with
            different data, which no table may compare; an unknown clock, or that of the processor
            for a model on a GPU; a run in ``output`` whose options have other defaults by now.
    """
    names = model_names(configs, names)
    if weights and len(weights) != len(configs):
        raise ConfigError(f"--weights: {len(weights)} files for {len(configs)} configs")
    if weights and minutes is not None:
        raise ConfigError("--weights and --train-minutes exclude each other")
    if minutes is not None and not 0 < minutes < math.inf:
        raise ConfigError(f"--train-minutes: must be positive, got {minutes:g}")
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ConfigError(f"--seeds: must be different numbers from 0 on, got {list(seeds)}")
    for flag, value in (("--evaluations", evaluations), ("--speed-images", speed_images)):
        if value < 1:
            raise ConfigError(f"{flag}: must be at least 1, got {value}")
    overrides = [*overrides]
    if dataset:
        overrides += ["DATASETS.TEST", f"('{dataset}',)"]
    if train_dataset:
        overrides += ["DATASETS.TRAIN", f"('{train_dataset}',)"]
    clocks.clock(clock)
    every = [[*overrides, *own] for own in own_overrides or [()] * len(configs)]
    cfgs = [get_cfg(config, own) for config, own in zip(configs, every, strict=True)]
    if clock == clocks.PROCESSOR:
        _require_processors(cfgs, names)
    test = _common(cfgs, names, "TEST", "--dataset")
    if len(test) != 1:
        raise ConfigError(
            f"DATASETS.TEST: a comparison needs one set, got {list(test)}; give --dataset"
        )
    train = _common(cfgs, names, "TRAIN", "--train-dataset") if minutes is not None else ()
    for name in (*test, *train):
        if name not in DatasetCatalog:
            raise ConfigError(f"no data set {name!r} is registered; see datasets/README.md")
    jobs = []
    for index, (config, cfg, name) in enumerate(zip(configs, cfgs, names, strict=True)):
        given = (weights[index] if weights else "") or cfg.MODEL.WEIGHTS
        # What training starts from is part of the config.
        scored = "" if minutes is not None else given
        trained_in = "" if minutes is not None or scored else os.path.abspath(cfg.OUTPUT_DIR)
        settings = [minutes, scored, trained_in, evaluations, speed_images]
        if minutes is None:
            settings.append(_state_of_weights(scored, trained_in))
        if clock != clocks.WALL:
            settings.append(clock)
        key = lasting_key(cfg, *settings)
        folder = os.path.join(output, f"{file_name(name)}-{key}")
        jobs += [
            Job(
                name=name,
                config_file=os.path.abspath(config) if "://" not in config else config,
                overrides=tuple(every[index]),
                seed=seed,
                minutes=minutes,
                evaluations=evaluations,
                weights=scored,
                trained_in=trained_in,
                speed_images=speed_images,
                folder=os.path.join(folder, f"seed{seed}"),
                budget_file=os.path.join(folder, "budget.json"),
                command=command,
                clock=clock,
            )
            for seed in seeds
        ]
        for job in jobs[-len(seeds) :]:
            require_same_defaults(job.folder, cfg)
    jobs.sort(key=lambda job: seeds.index(job.seed))
    return Plan(test[0], train, tuple(jobs), minutes, output, clock, tuple(chosen))


def _require_processors(cfgs: Sequence[CfgNode], names: Sequence[str]) -> None:
    for cfg, name in zip(cfgs, names, strict=True):
        if available_device(cfg.MODEL.DEVICE) != "cpu":
            raise ConfigError(
                f"--clock processor: does not count what a GPU does, and {name} runs on "
                f"{cfg.MODEL.DEVICE}; set MODEL.DEVICE cpu, or give --clock wall"
            )


def model_names(configs: Sequence[str], names: Sequence[str]) -> list[str]:
    """``names``, or those of the files.

    Raises:
        ConfigError: no config, another number of names, or one name for two models.
    """
    if not configs:
        raise ConfigError("--configs: name at least one config file")
    if names and len(names) != len(configs):
        raise ConfigError(f"--names: {len(names)} names for {len(configs)} configs")
    found = list(names) or [os.path.splitext(os.path.basename(config))[0] for config in configs]
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise ConfigError(f"--names: {', '.join(twice)} would name two models; give others")
    return found


def _common(cfgs: Sequence[CfgNode], names: Sequence[str], key: str, flag: str) -> tuple[str, ...]:
    """The data sets that all configs agree on."""
    found = {name: tuple(cfg.DATASETS[key]) for name, cfg in zip(names, cfgs, strict=True)}
    if len(set(found.values())) > 1:
        told = "; ".join(f"{name}: {', '.join(sets) or 'none'}" for name, sets in found.items())
        raise ConfigError(f"DATASETS.{key} differs ({told}); give {flag}")
    return next(iter(found.values()))


def _state_of_weights(scored: str, trained_in: str) -> list[tuple[int, int] | None]:
    """Size and time of the local files that would be scored: a name may get new content."""
    if scored:
        paths = [scored]
    else:
        paths = [os.path.join(trained_in, name) for name in (f"{BEST}.pth", "last_checkpoint")]
    return [
        (os.path.getsize(path), os.stat(path).st_mtime_ns) if os.path.isfile(path) else None
        for path in paths
    ]
