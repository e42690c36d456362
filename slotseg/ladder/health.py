"""May the next rung build on this one?"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.utils.file_io import PathManager

from slotseg.comparison.records import Row, mean_and_deviation
from slotseg.engine.hooks.slot_monitor import MONITOR_FILE
from slotseg.engine.slot_health import COLLAPSED, HEALTHY, WARNING

# The monitor looked, but the run ended before it had anything to say, or it did not look at all.
UNKNOWN = "unknown"
_WORST_FIRST = (COLLAPSED, UNKNOWN, WARNING, HEALTHY)


@dataclass(frozen=True)
class Health:
    """Of one rung.

    Attributes:
        verdict: the worst that the slot monitor said last of any seed: ``healthy``, ``warning``,
            ``collapsed``, or ``unknown``.
        reasons: why not to build on it, one clause each; empty: it is safe to climb.
        remarks: what the monitor warned of without condemning it.
    """

    verdict: str
    reasons: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    @property
    def is_safe(self) -> bool:
        """Whether the next rung may be climbed."""
        return not self.reasons


def judge(row: Row, folders: Sequence[str], gate: Mapping[str, float]) -> Health:
    """Look at what the runs of a rung have left.

    Args:
        row: of the rung, with a run for every folder.
        folders: where the runs lie, with their ``monitor.jsonl``.
        gate: score to the smallest mean over seeds that is good enough.
    """
    reasons = list(row.errors)
    remarks: list[str] = []
    verdicts: list[str] = []
    for run, folder in zip(row.runs, folders, strict=True):
        if run.error:
            continue
        of_seed = f"seed {run.seed}: " if len(row.runs) > 1 else ""
        last = last_look(folder)
        verdicts.append(last.get("verdict", UNKNOWN))
        if verdicts[-1] not in (HEALTHY, WARNING, COLLAPSED):
            verdicts[-1] = UNKNOWN
            reasons.append(
                f"{of_seed}the slot monitor has no verdict on the trained model (training ended "
                "in its warm-up, or SLOT_MONITOR.IMAGES is 0)"
            )
        elif verdicts[-1] == COLLAPSED:
            reasons.append(f"{of_seed}collapsed: {last.get('message') or 'the monitor says so'}")
        elif verdicts[-1] == WARNING:
            remarks.append(f"{of_seed}{last.get('message') or 'the monitor warns'}")
    for score, least in gate.items():
        mean, _ = mean_and_deviation(row.score(score))
        if math.isnan(mean):
            if not row.errors:
                reasons.append(f"{score} was not measured, and its gate is {least:g}")
        elif mean < least:
            reasons.append(f"{score} {mean:.4f} is under its gate {least:g}")
    verdict = next((kind for kind in _WORST_FIRST if kind in verdicts), UNKNOWN)
    return Health(verdict, tuple(reasons), tuple(remarks))


def last_look(folder: str) -> dict[str, Any]:
    """The last line of a run's ``monitor.jsonl``; empty if there is none that can be read."""
    path = os.path.join(folder, MONITOR_FILE)
    if not PathManager.isfile(path):
        return {}
    with PathManager.open(path, "r") as file:
        lines = [line for line in file.read().splitlines() if line.strip()]
    try:
        last = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return last if isinstance(last, dict) else {}
