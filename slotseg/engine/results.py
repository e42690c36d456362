"""Scores as files, tables and flat names."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

from slotseg.engine.checkpoint_teacher import STUDENT
from slotseg.evaluation.quality_table import PANOPTIC, QUALITIES, percent_text, quality_table
from slotseg.files import write_atomically

RESULTS_FILE = "results.json"
EVAL_ONLY_FOLDER = "eval_only"
# Tasks with a table of their own, and what its title says of whose scores they are.
_PANOPTIC_TASKS = {PANOPTIC: "", f"{STUDENT}/{PANOPTIC}": ", student"}

Results = dict[str, dict[str, dict[str, float]]]


def write_results(results: Results, path: str) -> None:
    """Write ``{data set: {task: {score: value}}}``; scores without a value (NaN) become null."""
    content = {name: _without_nan(tasks) for name, tasks in results.items()}
    write_atomically(path, json.dumps(content, indent=2) + "\n")


def flatten_results(tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """``{"slots": {"ARI": 0.9}}`` to ``{"slots/ARI": 0.9}``; only numbers."""
    return {
        f"{task}/{score}": float(value)
        for task, scores in tasks.items()
        for score, value in scores.items()
        if isinstance(value, int | float)
    }


def format_results(results: Results) -> str:
    """Tables for a terminal: panoptic quality set by set, all other scores in one."""
    parts = [
        _panoptic_table(f"{name}{whose}", tasks[task])
        for name, tasks in results.items()
        for task, whose in _PANOPTIC_TASKS.items()
        if task in tasks
    ]
    others = {
        name: {task: scores for task, scores in tasks.items() if task not in _PANOPTIC_TASKS}
        for name, tasks in results.items()
    }
    others = {name: tasks for name, tasks in others.items() if tasks}
    if others or not parts:
        parts.append(_score_table(others))
    return "\n\n".join(parts)


def _score_table(results: Results) -> str:
    """One line a score, one column a data set."""
    columns = {name: flatten_results(tasks) for name, tasks in results.items()}
    scores = dict.fromkeys(score for column in columns.values() for score in column)
    rows = [[score, *(_cell(column.get(score)) for column in columns.values())] for score in scores]
    return _tabulate(rows, ["score", *columns])


def _panoptic_table(dataset: str, scores: Mapping[str, Any]) -> str:
    """All, things and stuff; the evaluator logs every class."""
    table = quality_table(scores)
    title = f"{dataset}: panoptic quality in percent, {table.setting}".rstrip(", ")
    cells = [[row.name, *(percent_text(row.scores[q]) for q in QUALITIES)] for row in table.groups]
    return f"{title}\n\n{_tabulate(cells, ['classes', *QUALITIES])}"


def _tabulate(rows: list[list[str]], headers: list[str]) -> str:
    align = ["left", *["right"] * (len(headers) - 1)]
    return tabulate(rows, headers=headers, colalign=align if rows else None, disable_numparse=True)


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.0f}" if value == int(value) and abs(value) > 1 else f"{value:.4f}"
