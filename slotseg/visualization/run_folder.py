"""What a training run left in its folder, read as far as it is there.

A run that was killed, is still going on, or was made by another program may lack files or end in
half a line. Nothing here raises for that: what is missing is named in ``notes``.
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import yaml
from detectron2.utils.file_io import PathManager

from slotseg.config import has_slots
from slotseg.errors import DatasetError
from slotseg.evaluation.quality_table import PANOPTIC

# Task name of slot scores in results.json.
SLOTS = "slots"
_MONITOR_FILE = "monitor.jsonl"


@dataclass(frozen=True)
class Curve:
    """One logged quantity: ``values[i]`` was logged at ``iterations[i]``; sorted, finite."""

    iterations: list[int]
    values: list[float]


@dataclass(frozen=True)
class RunFolder:
    """A run as read from disk.

    Attributes:
        path: of the folder.
        config_text: ``config.yaml`` as it is; empty if missing.
        config: the same, parsed; empty if missing.
        curves: scalars of ``metrics.json`` by name.
        results: ``results.json``: data set to its slot scores; NaN where a score is undefined.
        quality: the same for scores of panoptic quality.
        run: ``run.json``; empty if missing.
        monitor: lines of ``monitor.jsonl`` by rising iteration.
        notes: one sentence for everything that is missing or damaged.
    """

    path: str
    config_text: str
    config: dict[str, Any]
    curves: dict[str, Curve]
    results: dict[str, dict[str, float]]
    run: dict[str, Any]
    monitor: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)
    quality: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def has_slots(self) -> bool:
        """Whether the model is one with slots: its slots were monitored, or its config says so."""
        return bool(self.monitor) or _may_have_slots(self.config)

    @property
    def name(self) -> str:
        """Last part of the path."""
        return os.path.basename(self.path.rstrip("/")) or self.path


def read_run_folder(path: str) -> RunFolder:
    """Read config, metrics, results, run record and monitor of a run.

    Raises:
        DatasetError: the folder does not exist, or holds none of these files.
    """
    if not PathManager.isdir(path):
        raise DatasetError(f"{path}: no such run folder; give the OUTPUT_DIR of a training run")
    reader = _Reader(path)
    config_text = reader.text("config.yaml", "the configuration")
    metrics = reader.json_lines("metrics.json", "the training curves")
    results = reader.json("results.json", "the final scores")
    run = reader.json("run.json", "the command line, versions and machine")
    config = reader.parse_yaml(config_text)
    # Only models with slots have a monitor; one that is not registered here is known by its file.
    monitored = PathManager.isfile(os.path.join(path, _MONITOR_FILE)) or _may_have_slots(config)
    monitor = reader.json_lines(_MONITOR_FILE, "the slot monitor's verdicts") if monitored else []
    if reader.found == 0:
        raise DatasetError(
            f"{path}: not the folder of a training run (no config.yaml, metrics.json, "
            "results.json, run.json or monitor.jsonl); give the OUTPUT_DIR of one"
        )
    return RunFolder(
        path=path,
        config_text=config_text,
        config=config,
        curves=curves_of(metrics),
        results=_task_results(results, SLOTS),
        quality=_task_results(results, PANOPTIC),
        run=run,
        monitor=sorted(monitor, key=lambda line: line.get("iteration", -1)),
        notes=reader.notes,
    )


def curves_of(lines: list[dict[str, Any]]) -> dict[str, Curve]:
    """Scalars by name from the lines of Detectron2's ``JSONWriter``.

    A resumed run logs some iterations twice; the later line counts. Values that are not finite
    numbers are left out.
    """
    values: dict[str, dict[int, float]] = defaultdict(dict)
    for line in lines:
        iteration = line.get("iteration")
        if not isinstance(iteration, int):
            continue
        for name, value in line.items():
            if name != "iteration" and _is_number(value):
                values[name][iteration] = float(value)
    return {
        name: Curve(sorted(points), [points[iteration] for iteration in sorted(points)])
        for name, points in sorted(values.items())
    }


class _Reader:
    """Reads the files of one folder and remembers in ``notes`` what it could not read."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.notes: list[str] = []
        self.found = 0

    def text(self, name: str, content: str) -> str:
        path = os.path.join(self.folder, name)
        if not PathManager.isfile(path):
            self.notes.append(f"{name} is missing, so {content} cannot be shown.")
            return ""
        self.found += 1
        try:
            with PathManager.open(path, "rb") as file:
                return file.read().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self.notes.append(f"{name} cannot be read ({error}), so {content} cannot be shown.")
            return ""

    def json(self, name: str, content: str) -> dict[str, Any]:
        text = self.text(name, content)
        if not text:
            return {}
        parsed = _parse_json(text)
        if not isinstance(parsed, dict):
            self.notes.append(f"{name} is damaged, so {content} cannot be shown.")
            return {}
        return parsed

    def json_lines(self, name: str, content: str) -> list[dict[str, Any]]:
        lines = [line for line in self.text(name, content).splitlines() if line.strip()]
        parsed = [_parse_json(line) for line in lines]
        good = [line for line in parsed if isinstance(line, dict)]
        if len(good) < len(lines):
            self.notes.append(
                f"{name}: {len(lines) - len(good)} of {len(lines)} lines are damaged and left out."
            )
        return good

    def parse_yaml(self, text: str) -> dict[str, Any]:
        try:
            config = yaml.safe_load(text)
        except yaml.YAMLError:
            self.notes.append("config.yaml is damaged; it is shown as it is.")
            return {}
        return config if isinstance(config, dict) else {}


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _may_have_slots(config: dict[str, Any]) -> bool:
    """True also where the config does not name the model."""
    model = config.get("MODEL")
    kind = model.get("META_ARCHITECTURE") if isinstance(model, dict) else None
    return kind is None or has_slots(str(kind))


def _task_results(results: dict[str, Any], task: str) -> dict[str, dict[str, float]]:
    """Scores of a task by data set; ``null`` is how JSON files say "not defined"."""
    scores = {}
    for dataset, tasks in results.items():
        found = tasks.get(task) if isinstance(tasks, dict) else None
        if isinstance(found, dict):
            scores[dataset] = {
                name: math.nan if value is None else float(value)
                for name, value in found.items()
                if value is None or isinstance(value, int | float)
            }
    return scores


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
