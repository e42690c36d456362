"""What an ablation measured, trial by trial."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from slotseg.ablation.definition import Variant
from slotseg.ablation.plan import PHASE, StudyPlan, Trial
from slotseg.ablation.statistics import Difference, paired_difference
from slotseg.comparison.records import NOT_RUN, Row, read_run


@dataclass(frozen=True)
class TrialRecord:
    """A variant at one value of the curve, as far as it is done.

    Attributes:
        variant: of the study.
        value: of the curve's key; None: the study has no curve.
        row: its runs, one a seed.
        difference: of the study's first score to the reference at the same value; None: there is
            no pair yet, or this is the reference.
    """

    variant: Variant
    value: float | None
    row: Row
    difference: Difference | None

    @property
    def failed(self) -> bool:
        """Whether a run ended without a score."""
        return any(run.error not in ("", NOT_RUN) for run in self.row.runs)


@dataclass(frozen=True)
class StudyRecord:
    """All trials of a plan.

    Attributes:
        plan: what was asked for.
        trials: in the plan's order.
    """

    plan: StudyPlan
    trials: tuple[TrialRecord, ...]

    @property
    def failed(self) -> bool:
        """Whether a run ended without a score."""
        return any(trial.failed for trial in self.trials)

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it; what is not defined is null."""
        plan, study = self.plan, self.plan.study
        return {
            "name": study.name,
            "config": told_path(study.config_file),
            "settings": study.settings,
            "overrides": list(plan.overrides),
            "dataset": plan.dataset,
            "train_datasets": plan.train_datasets,
            "seeds": plan.seeds,
            "train_minutes": plan.minutes,
            "clock": plan.clock,
            "steps": plan.steps,
            "scores": study.scores,
            "reference": study.reference,
            "curve": asdict(study.curve) if study.curve else None,
            "command": plan.command,
            "trials": [
                {
                    **asdict(trial.variant),
                    "value": trial.value,
                    "difference": asdict(trial.difference) if trial.difference else None,
                    "runs": trial.row.as_dict()["runs"],
                }
                for trial in self.trials
            ],
        }


def read_study_record(plan: StudyPlan) -> StudyRecord:
    """What the runs of a plan have left so far."""
    rows = [_row(trial) for trial in plan.trials]
    score = plan.study.scores[0]
    references = {
        trial.value: _by_seed(row, score)
        for trial, row in zip(plan.trials, rows, strict=True)
        if trial.variant.name == plan.study.reference
    }
    return StudyRecord(
        plan,
        tuple(
            TrialRecord(
                trial.variant,
                trial.value,
                row,
                None
                if trial.variant.name == plan.study.reference
                else paired_difference(_by_seed(row, score), references[trial.value]),
            )
            for trial, row in zip(plan.trials, rows, strict=True)
        ),
    )


def told_path(path: str) -> str:
    """Relative to the working directory where it is inside, so that records tell of no machine."""
    relative = os.path.relpath(path)
    return path if relative.startswith(os.pardir) else relative


def largest_number_of_pairs(trials: Sequence[TrialRecord]) -> int:
    """Of any difference; 0 if there is none."""
    return max((len(t.difference.values) for t in trials if t.difference), default=0)


def _row(trial: Trial) -> Row:
    jobs = sorted(trial.jobs, key=lambda job: job.seed)
    return Row(trial.jobs[0].name, tuple(read_run(job, (PHASE,)) for job in jobs))


def _by_seed(row: Row, score: str) -> dict[int, float]:
    return {run.seed: run.scores.get(score, math.nan) for run in row.runs}
