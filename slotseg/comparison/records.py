"""What a comparison measured, row by row."""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from detectron2.utils.file_io import PathManager

from slotseg.comparison.plan import PHASES, Job, failure_file, phase_file
from slotseg.errors import DatasetError

# What is followed over the training, where a model has it.
CURVE_SCORES = ("panoptic/PQ", "panoptic/PQ_things", "panoptic/PQ_stuff", "slots/ARI")
# The error of a run that nobody has started.
NOT_RUN = "not run"


@dataclass(frozen=True)
class Run:
    """One model with one seed.

    Attributes:
        seed: of it; None: not recorded.
        scores: flat names such as ``panoptic/PQ`` to values; NaN where one is not defined. Where
            a teacher was scored, ``student/panoptic/PQ`` is the trained model's.
        numbers: what else was measured: ``parameters``, ``trained_parameters``,
            ``seconds_an_image``, ``step_seconds``, ``train_seconds``, ``steps``,
            ``train_memory_mib``, ``inference_memory_mib``, ``step_memory_mib``, and with
            ``processor_seconds`` for ``seconds`` the same on the processor's clock, as far as it
            is known.
        input_size: height and width that the model saw.
        curve: scores in training, ``{"seconds": s, "PQ": value, ...}`` each, the seconds on the
            clock of the training's budget.
        origin: command, machine and date.
        error: why there are no numbers, or not all; empty: all is well.
    """

    seed: int | None
    scores: dict[str, float] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    input_size: tuple[int, int] | None = None
    curve: list[dict[str, float]] = field(default_factory=list)
    origin: dict[str, str] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Row:
    """One model: its runs, one a seed.

    Attributes:
        name: of the model.
        runs: in the order of the seeds.
        added: measured by another program and read from a file.
    """

    name: str
    runs: tuple[Run, ...]
    added: bool = False

    @property
    def errors(self) -> list[str]:
        """One sentence a run that failed."""
        several = len(self.runs) > 1
        return [
            f"seed {run.seed}: {run.error}" if several else run.error
            for run in self.runs
            if run.error
        ]

    def score(self, name: str) -> list[float]:
        """The values of a score, one a seed that has it."""
        values = (run.scores.get(name, math.nan) for run in self.runs)
        return [value for value in values if not math.isnan(value)]

    def number(self, name: str) -> float | None:
        """Median over the seeds; None: not known."""
        values = [run.numbers[name] for run in self.runs if run.numbers.get(name) is not None]
        return statistics.median(values) if values else None

    def as_dict(self) -> dict[str, Any]:
        """For ``comparison.json``; what is not defined is null."""
        return {
            "name": self.name,
            "added": self.added,
            "runs": [
                {
                    "seed": run.seed,
                    "scores": {k: None if math.isnan(v) else v for k, v in run.scores.items()},
                    **run.numbers,
                    "input_size": run.input_size,
                    "curve": run.curve,
                    **run.origin,
                    "error": run.error or None,
                }
                for run in self.runs
            ],
        }


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation; the latter None for a single value, NaN for none."""
    if not values:
        return math.nan, None
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return statistics.fmean(values), deviation


def rows_of(jobs: Iterable[Job]) -> list[Row]:
    """The rows of all jobs, as far as they are done; models in the order of the jobs."""
    runs: dict[str, list[Run]] = {}
    for job in jobs:
        runs.setdefault(job.name, []).append(read_run(job))
    return [Row(name, tuple(found)) for name, found in runs.items()]


def read_added(path: str) -> Row:
    """A row that another program measured.

    The file is JSON: ``{"name": ..., "panoptic": {"PQ": ..., ...}, "command": ..., "seed": ...,
    "machine": ..., "date": ...}``, with ``slots`` instead of or besides ``panoptic``, and, if
    measured, the numbers that :class:`Run` names.

    Raises:
        DatasetError: it is missing or not such a file.
    """
    try:
        with PathManager.open(path, "r") as file:
            entry = json.load(file)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise DatasetError(f"{path}: not JSON ({error})") from error
    scores = _flat(entry) if isinstance(entry, dict) else {}
    if not scores or not isinstance(entry.get("name"), str):
        raise DatasetError(
            f"{path}: not a result; expected a JSON object with name and panoptic (or slots), as "
            "slotseg.comparison.records.read_added describes it"
        )
    run = Run(
        seed=entry.get("seed"),
        scores=scores,
        numbers=_numbers(entry),
        origin=_origin(entry),
        input_size=tuple(entry["input_size"]) if entry.get("input_size") else None,
    )
    return Row(entry["name"], (run,), added=True)


_NUMBERS = (
    "parameters",
    "trained_parameters",
    "seconds_an_image",
    "step_seconds",
    "train_seconds",
    "processor_seconds_an_image",
    "step_processor_seconds",
    "train_processor_seconds",
    "steps",
    "train_memory_mib",
    "inference_memory_mib",
    "step_memory_mib",
)


def read_run(job: Job, phases: Sequence[str] = PHASES) -> Run:
    """What the ``phases`` of a job have left; at the first that has left nothing, why."""
    found: dict[str, Any] = {}
    for phase in phases:
        path = phase_file(job.folder, phase)
        if not PathManager.isfile(path):
            return _run(job, found, _reason(job, phase))
        with PathManager.open(path, "r") as file:
            found |= json.load(file)
    return _run(job, found, "")


def _reason(job: Job, phase: str) -> str:
    path = failure_file(job.folder, phase)
    if not PathManager.isfile(path):
        return NOT_RUN
    with PathManager.open(path, "r") as file:
        return file.read().strip() or f"{os.path.basename(path)} does not say why"


def _run(job: Job, found: dict[str, Any], error: str) -> Run:
    return Run(
        seed=job.seed,
        scores=_flat(found.get("scores", {})),
        numbers=_numbers(found),
        input_size=tuple(found["input_size"]) if "input_size" in found else None,
        curve=found.get("curve", []),
        origin=_origin(found),
        error=error,
    )


def _flat(tasks: dict[str, Any]) -> dict[str, float]:
    return {
        f"{task}/{name}": math.nan if value is None else float(value)
        for task, scores in tasks.items()
        if isinstance(scores, dict) and task.removeprefix("student/") in ("panoptic", "slots")
        for name, value in scores.items()
        if value is None or isinstance(value, int | float)
    }


def _numbers(found: dict[str, Any]) -> dict[str, float]:
    return {name: found[name] for name in _NUMBERS if isinstance(found.get(name), int | float)}


def _origin(found: dict[str, Any]) -> dict[str, str]:
    machine = found.get("machine", "")
    if isinstance(machine, dict):
        on_gpu = machine.get("device") not in (None, "cpu")
        kind = machine["device"] if on_gpu else f"{machine.get('processor', 'CPU')}"
        machine = f"{kind}, {machine.get('threads', '?')} threads"
    return {
        "machine": str(machine),
        "date": str(found.get("date", "")),
        "command": str(found.get("command", "")),
    }
