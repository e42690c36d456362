"""The table of an ablation, for people (Markdown) and for programs (CSV)."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

from slotseg.ablation.records import (
    StudyRecord,
    TrialRecord,
    largest_number_of_pairs,
    told_path,
)
from slotseg.ablation.statistics import what_pairs_can_tell
from slotseg.comparison.records import NOT_RUN, mean_and_deviation
from slotseg.comparison.texts import UNKNOWN, digits, whole
from slotseg.engine.clocks import PROCESSOR

# Numbers of steps further apart than this share are told of.
_EQUAL_STEPS = 0.01
# And minutes further from those that were planned.
_EQUAL_MINUTES = 0.15


def score_title(score: str) -> str:
    """``panoptic/PQ_things`` as ``PQ things``."""
    *student, _, name = score.split("/")
    return " ".join([*student, name.replace("_", " ")])


def trial_name(record: TrialRecord) -> str:
    """Of the variant, with its value if there is one."""
    name = record.variant.name
    return name if record.value is None else f"{name}, {record.value:g}"


def study_table(record: StudyRecord) -> str:
    """Scores and differences, what the test can tell, what each variant is, and what failed."""
    plan, study = record.plan, record.plan.study
    headers, rows = _cells(record)
    align = ["left", *["right"] * (len(headers) - 1)]
    parts = [
        f"## {study.name}: measured on {plan.dataset}, {plan.budget}",
        tabulate(rows, headers, tablefmt="github", colalign=align, disable_numparse=True),
        _legend(record),
    ]
    parts += [line for line in (_uneven_steps(record), _off_the_clock(record)) if line]
    parts += ["### Variants", "\n".join(_describe(record))]
    lines = [
        f"- {trial_name(trial)}: {error}" for trial in record.trials for error in trial.row.errors
    ]
    unfinished = [line for line in lines if line.endswith(NOT_RUN)]
    failures = [line for line in lines if line not in unfinished]
    for heading, told in (("### Failed", failures), ("### Not finished yet", unfinished)):
        parts += [heading, "\n".join(told)] if told else []
    origins = _origins(record)
    parts += ["### Made by", "\n".join(origins)] if origins else []
    return "\n\n".join(parts) + "\n"


def study_csv(record: StudyRecord) -> str:
    """One line a trial, plain numbers with full precision, and the reason where a run failed."""
    study = record.plan.study
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    scores = [part for score in study.scores for part in (score, f"{score}_sd")]
    writer.writerow(
        [
            *("variant", "value", *scores, "difference", "difference_sd", "difference_low"),
            *("difference_high", "p", "pairs", "improved", "steps", "train_minutes"),
            *("processor_minutes", "seeds", "error"),
        ]
    )
    for trial in record.trials:
        found = trial.difference
        low, high = found.interval if found and found.interval else (None, None)
        values = [
            trial.value,
            *(v for score in study.scores for v in mean_and_deviation(trial.row.score(score))),
            *((found.mean, found.deviation) if found else (None, None)),
            low,
            high,
            *((found.p_value, len(found.values), found.improved) if found else (None, 0, None)),
            trial.row.number("steps"),
            _minutes(trial, "train_seconds"),
            _minutes(trial, "train_processor_seconds"),
        ]
        seeds = " ".join(str(run.seed) for run in trial.row.runs if not run.error)
        writer.writerow(
            [trial.variant.name, *map(_csv_cell, values), seeds, "; ".join(trial.row.errors)]
        )
    return text.getvalue()


def score_text(value: float, score: str) -> str:
    """With the decimals that a score is told with: panoptic ones are in percent."""
    return f"{value:.{_decimals(score)}f}"


def _decimals(score: str) -> int:
    return 2 if "panoptic/" in score else 4


def _cells(record: StudyRecord) -> tuple[list[str], list[list[str]]]:
    study = record.plan.study
    first, *others = study.scores
    title = score_title(first)
    headers = [
        "variant",
        *([study.curve.label] if study.curve else []),
        title,
        f"Δ {title}",
        "95 % interval",
        "p",
        "seeds better",
        *map(score_title, others),
        "steps",
        "processor min" if record.plan.clock == PROCESSOR else "training min",
    ]
    rows = [
        [
            trial.variant.name.replace("|", "/"),
            *([f"{trial.value:g}"] if study.curve else []),
            _score(trial, first),
            *_difference(trial, study.reference, first),
            *(_score(trial, score) for score in others),
            whole(trial.row.number("steps")),
            digits(_training_minutes(trial, record)),
        ]
        for trial in record.trials
    ]
    return headers, rows


def _score(trial: TrialRecord, score: str) -> str:
    mean, deviation = mean_and_deviation(trial.row.score(score))
    if math.isnan(mean):
        return (
            "failed" if any(run.error not in ("", NOT_RUN) for run in trial.row.runs) else UNKNOWN
        )
    return score_text(mean, score) + (
        f" ± {score_text(deviation, score)}" if deviation is not None else ""
    )


def _difference(trial: TrialRecord, reference: str, score: str) -> list[str]:
    """Mean, interval, p and the count of seeds, as four cells."""
    if trial.variant.name == reference:
        return ["reference", "", "", ""]
    found = trial.difference
    if found is None:
        return [UNKNOWN] * 4
    decimals = _decimals(score)
    mean = f"{found.mean:+.{decimals}f}"
    better = f"{found.improved} of {len(found.values)}"
    if found.interval is None:
        return [mean, UNKNOWN, UNKNOWN, better]
    low, high = found.interval
    return [
        f"{mean} ± {found.deviation:.{decimals}f}",
        f"{low:+.{decimals}f} to {high:+.{decimals}f}",
        "< 0.001" if found.p_value < 0.001 else f"{found.p_value:.3f}",
        better,
    ]


def _legend(record: StudyRecord) -> str:
    study = record.plan.study
    title = score_title(study.scores[0])
    at = " at the same value" if study.curve else ""
    percent = any("panoptic/" in score for score in study.scores)
    sentences = [
        "PQ in percent." if percent else "",
        "±: sample standard deviation over seeds.",
        f"Δ {title}: mean difference to {study.reference}{at}, each seed with the same seed of it. "
        "Interval and p: of a paired t-test, not corrected for the number of variants.",
        what_pairs_can_tell(largest_number_of_pairs(record.trials))
        if largest_number_of_pairs(record.trials)
        else "",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _uneven_steps(record: StudyRecord) -> str:
    """Says so where variants took different numbers of steps, which only some studies mean to."""
    steps = {trial_name(t): s for t in record.trials if (s := t.row.number("steps"))}
    if not steps or max(steps.values()) <= (1 + _EQUAL_STEPS) * min(steps.values()):
        return ""
    fewest, most = min(steps, key=steps.__getitem__), max(steps, key=steps.__getitem__)
    return (
        f"Not the same number of steps: {fewest} took {steps[fewest]:.0f}, {most} "
        f"{steps[most]:.0f}."
    )


def _off_the_clock(record: StudyRecord) -> str:
    """Says so where steps took another time than they did when they were fitted to the budget."""
    minutes = record.plan.minutes
    took = {trial_name(t): m for t in record.trials if (m := _training_minutes(t, record))}
    off = [
        f"{name} {digits(found)}"
        for name, found in took.items()
        if minutes is not None and abs(found / minutes - 1) > _EQUAL_MINUTES
    ]
    if not off:
        return ""
    return (
        f"Not the {minutes:g} minutes that were planned: {', '.join(off)}. The machine was busier, "
        "or less busy, when the time of a step was measured, or a step changed in the training; "
        "--steps gives all the same number."
    )


def _describe(record: StudyRecord) -> list[str]:
    """What every variant changes and why, in the order of the table."""
    study = record.plan.study
    base = _in_words(study.settings)
    lines = [f"- base: `{told_path(study.config_file)}`" + (f", {base}" if base else "")]
    if record.plan.overrides:
        lines.append(f"- on top of all: `{' '.join(map(str, record.plan.overrides))}`")
    for variant in study.variants:
        told = _in_words(variant.settings) or "nothing changed"
        lines.append(
            f"- {variant.name}: {told}" + (f" ({variant.reason})" if variant.reason else "")
        )
    return lines


def _in_words(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"`{key} {value}`" for key, value in settings.items())


def _origins(record: StudyRecord) -> list[str]:
    """Commands and machines; trials of one command share a line."""
    lines: dict[tuple[str, str], list[str]] = {}
    for trial in record.trials:
        for run in trial.row.runs:
            origin = (run.origin.get("command", ""), run.origin.get("machine", ""))
            names = lines.setdefault(origin, []) if any(origin) else []
            if trial_name(trial) not in names:
                names.append(trial_name(trial))
    return [
        f"- {', '.join(names)}: "
        + " on ".join(part for part in (f"`{command}`" if command else "", machine) if part)
        for (command, machine), names in lines.items()
    ]


def _training_minutes(trial: TrialRecord, record: StudyRecord) -> float | None:
    """On the clock of the budget."""
    processor = record.plan.clock == PROCESSOR
    return _minutes(trial, "train_processor_seconds" if processor else "train_seconds")


def _minutes(trial: TrialRecord, number: str) -> float | None:
    seconds = trial.row.number(number)
    return None if seconds is None else seconds / 60


def _csv_cell(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(value)
