"""Scores as files, tables and flat names."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

from slotseg.files import write_atomically

RESULTS_FILE = "results.json"
EVAL_ONLY_FOLDER = "eval_only"

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
    """A table: one line a score, one column a data set."""
    columns = {name: flatten_results(tasks) for name, tasks in results.items()}
    scores = dict.fromkeys(score for column in columns.values() for score in column)
    rows = [[score, *(_cell(column.get(score)) for column in columns.values())] for score in scores]
    return tabulate(rows, headers=["score", *columns], stralign="right", disable_numparse=True)


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.0f}" if value == int(value) and abs(value) > 1 else f"{value:.4f}"
