"""What climbing a ladder has found out so far."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, replace
from typing import Any

from detectron2.utils.file_io import PathManager

from slotseg.comparison.plan import failure_file, phase_file
from slotseg.comparison.records import Row, Run, mean_and_deviation, read_run
from slotseg.ladder.health import Health, judge
from slotseg.ladder.plan import LadderPlan, PretrainingPlan, RungPlan


@dataclass(frozen=True)
class RungRecord:
    """One rung.

    Attributes:
        name: of it.
        starts_from: where the backbone's weights come from.
        gate: score to its smallest mean.
        row: its runs, one a seed; numbers of the model and of memory with the first.
        health: None while it is not known.
        notes: what could not be measured and why.
    """

    name: str
    starts_from: str
    gate: dict[str, float]
    row: Row
    health: Health | None = None
    notes: tuple[str, ...] = ()

    @property
    def was_tried(self) -> bool:
        """Whether any of its trainings is over, well or not."""
        return self.health is not None

    def difference(self, below: RungRecord | None, score: str) -> tuple[float, float | None]:
        """Mean over the seeds that both have of this rung's score minus that of ``below``, and the
        sample standard deviation; NaN without such a seed."""
        if below is None:
            return mean_and_deviation([])
        before = {run.seed: run.scores.get(score, math.nan) for run in below.row.runs}
        gains = [
            run.scores.get(score, math.nan) - before.get(run.seed, math.nan)
            for run in self.row.runs
        ]
        return mean_and_deviation([gain for gain in gains if not math.isnan(gain)])


@dataclass(frozen=True)
class PretrainingRecord:
    """One training before the first rung.

    Attributes:
        name: of it.
        config_file: of it, relative to the current folder where it lies below.
        weights: the file that it left, likewise.
        steps, seconds, parameters: of the training; None: not known.
        machine: in words.
    """

    name: str
    config_file: str
    weights: str
    steps: int | None
    seconds: float | None
    parameters: int | None
    machine: str = ""


@dataclass(frozen=True)
class LadderRecord:
    """The state of a climb.

    Attributes:
        name: of the ladder.
        dataset: that rungs are scored on.
        scores: shown; the first is the one that counts.
        budget: of a rung, in words.
        memory_size: height and width for the memory of a training step; None: not measured.
        pretraining: what made weights.
        rungs: lowest first, also those that were not reached.
        stopped: why the climb ended before the top; empty: it did not.
    """

    name: str
    dataset: str
    scores: tuple[str, ...]
    budget: str
    memory_size: tuple[int, int] | None
    pretraining: tuple[PretrainingRecord, ...]
    rungs: tuple[RungRecord, ...]
    stopped: str = ""

    def below(self, index: int) -> RungRecord | None:
        """The nearest rung under number ``index`` that has the score that counts."""
        candidates = reversed(self.rungs[:index])
        return next((rung for rung in candidates if rung.row.score(self.scores[0])), None)

    def as_dict(self) -> dict[str, Any]:
        """For ``ladder.json``; what is not known is null."""
        return {
            "name": self.name,
            "dataset": self.dataset,
            "scores": list(self.scores),
            "budget": self.budget,
            "memory_size": self.memory_size,
            "stopped": self.stopped or None,
            "pretraining": [vars(entry) for entry in self.pretraining],
            "rungs": [
                {
                    "starts_from": rung.starts_from,
                    "gate": rung.gate,
                    "health": None
                    if rung.health is None
                    else {**vars(rung.health), "is_safe": rung.health.is_safe},
                    "notes": rung.notes,
                    **rung.row.as_dict(),
                }
                for rung in self.rungs
            ],
        }


def budget_in_words(plan: LadderPlan) -> str:
    """How long every rung is trained."""
    if plan.minutes is not None:
        return f"{plan.minutes:g} minutes of training a rung and seed"
    if plan.steps is not None:
        return f"{plan.steps} step{'s' * (plan.steps != 1)} a rung and seed"
    return "as many steps as each config says"


def read_rung(planned: RungPlan) -> RungRecord:
    """What the processes of a rung have left."""
    runs = [read_run(job, ("score",)) for job in planned.jobs]
    extra: dict[str, float] = {}
    notes: list[str] = []
    origin = next((run.origin for run in runs if not run.error), {})
    if origin:
        measured = [("measure", planned.jobs[_first_scored(runs)])]
        if planned.memory_job is not None:
            measured.append(("memory", planned.memory_job))
        for phase, job in measured:
            numbers, note = _read_extra(job.folder, phase)
            extra |= numbers
            notes += [f"{phase}: {note}"] if note else []
        runs = [replace(run, numbers={**extra, **run.numbers}) for run in runs]
    row = Row(planned.rung.name, tuple(runs))
    over = [_is_over(job.folder) for job in planned.jobs]
    health = None
    if all(over):
        health = judge(row, [job.folder for job in planned.jobs], planned.rung.gate)
    return RungRecord(
        name=planned.rung.name,
        starts_from=planned.starts_from,
        gate=planned.rung.gate,
        row=row,
        health=health,
        notes=tuple(notes),
    )


def read_pretraining(planned: PretrainingPlan) -> PretrainingRecord:
    """What a training before the first rung has left."""
    found = _read(phase_file(planned.job.folder, "train"))
    machine = found.get("machine") or {}
    return PretrainingRecord(
        name=planned.name,
        config_file=_portable(planned.config_file),
        weights=_portable(planned.weights),
        steps=found.get("steps"),
        seconds=found.get("train_seconds"),
        parameters=found.get("parameters"),
        machine=f"{machine['processor']}, {machine['threads']} threads" if machine else "",
    )


def _portable(path: str) -> str:
    """Relative where it lies below the current folder: records are read on other machines."""
    if not os.path.isabs(path):
        return path
    relative = os.path.relpath(path)
    return path if relative.startswith(os.pardir) else relative


def _first_scored(runs: list[Run]) -> int:
    return next(index for index, run in enumerate(runs) if not run.error)


def _is_over(folder: str) -> bool:
    return PathManager.isfile(phase_file(folder, "score")) or PathManager.isfile(
        failure_file(folder, "score")
    )


def _read_extra(folder: str, phase: str) -> tuple[dict[str, float], str]:
    """Numbers of a phase, and the reason if it failed."""
    failed = failure_file(folder, phase)
    if PathManager.isfile(failed):
        with PathManager.open(failed, "r") as file:
            return {}, file.read().strip()
    found = _read(phase_file(folder, phase))
    names = ("parameters", "trained_parameters", "seconds_an_image", "step_memory_mib")
    return {name: found[name] for name in names if found.get(name) is not None}, ""


def _read(path: str) -> dict[str, Any]:
    if not PathManager.isfile(path):
        return {}
    with PathManager.open(path, "r") as file:
        return json.load(file)
