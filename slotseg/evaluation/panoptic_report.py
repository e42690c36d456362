"""Panoptic counts as a report: flat scores, a table for the log, a JSON file."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from tabulate import tabulate

from slotseg.classes import ClassSet
from slotseg.evaluation.panoptic_quality import (
    ClassQuality,
    GroupQuality,
    PanopticCounts,
    class_qualities,
    group_quality,
)
from slotseg.evaluation.quality_table import (
    GROUP_SUFFIXES,
    QUALITIES,
    percent_text,
    setting_text,
)
from slotseg.files import write_atomically

_COLUMNS = (*QUALITIES, "TP", "FP", "FN")


@dataclass(frozen=True)
class PanopticReport:
    """Panoptic quality of one data set.

    Attributes:
        classes: of the set.
        per_class: one a class, in the set's order.
        groups: "all", and "things" and "stuff" as far as the set has such classes.
        images: scored.
        images_expected: in the set.
    """

    classes: ClassSet
    per_class: list[ClassQuality]
    groups: dict[str, GroupQuality]
    images: int
    images_expected: int

    @classmethod
    def from_counts(
        cls, classes: ClassSet, counts: PanopticCounts, images_expected: int
    ) -> PanopticReport:
        """Scores of all classes and groups of ``classes``, whose order the counts have."""
        qualities = class_qualities(counts)
        members = {"all": range(len(classes)), "things": classes.things, "stuff": classes.stuff}
        groups = {
            name: group_quality(qualities[number] for number in members[name])
            for name in GROUP_SUFFIXES
            if members[name]
        }
        return cls(classes, qualities, groups, counts.images, images_expected)

    def scores(self) -> dict[str, float]:
        """Flat scores: percent, and counts as floats, as Detectron2 wants them.

        ``PQ``, ``SQ``, ``RQ``; the same with ``_things`` and ``_stuff`` if the set has such
        classes; ``classes``, ``images``, ``images_expected``; ``PQ-car``, ``SQ-car``, ``RQ-car`` of
        every class. NaN is a score of classes that occur neither in the truth nor in a prediction.
        """
        scores: dict[str, float] = {}
        for name, quality in self.groups.items():
            scores.update(_percent(quality, GROUP_SUFFIXES[name]))
        scores["classes"] = float(self.groups["all"].classes)
        scores["images"] = float(self.images)
        scores["images_expected"] = float(self.images_expected)
        for name, quality in zip(self.classes.names, self.per_class, strict=True):
            scores.update(_percent(quality, f"-{name}"))
        return scores

    def table(self, *, groups: bool = True) -> str:
        """One line a class, then, if wanted, the groups; see :func:`percent_text`."""
        kinds = ["thing" if thing else "stuff" for thing in self.classes.is_thing]
        rows = [
            [name, kind, *_cells(quality)]
            for name, kind, quality in zip(self.classes.names, kinds, self.per_class, strict=True)
        ]
        if groups:
            rows.append([""] * len(rows[0]))
            rows += [
                [name, f"{quality.classes} classes", *_cells(quality)]
                for name, quality in self.groups.items()
            ]
        return tabulate(
            rows,
            headers=["class", "", *_COLUMNS],
            colalign=["left", "left", *["right"] * len(_COLUMNS)],
            disable_numparse=True,
        )

    def setting(self) -> str:
        """What was scored, in words, see :func:`setting_text`."""
        return setting_text(self.groups["all"].classes, self.images, self.images_expected)

    def write_json(self, path: str) -> None:
        """Write all scores and counts, atomically; undefined scores are null.

        Scores in the file are fractions with all digits: ``{"groups": {"all": {"pq", "sq", "rq",
        "tp", "fp", "fn", "classes"}, ...}, "classes": [{"name", "category_id" (of the set's
        files), "isthing", "pq", ...}], "images", "images_expected"}``.
        """
        classes = [
            {"name": name, "category_id": number, "isthing": int(thing), **_record(quality)}
            for name, number, thing, quality in zip(
                self.classes.names,
                self.classes.dataset_ids,
                self.classes.is_thing,
                self.per_class,
                strict=True,
            )
        ]
        content = {
            "images": self.images,
            "images_expected": self.images_expected,
            "groups": {name: _record(quality) for name, quality in self.groups.items()},
            "classes": classes,
        }
        write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def _percent(quality: ClassQuality | GroupQuality, suffix: str) -> dict[str, float]:
    values = (quality.pq, quality.sq, quality.rq)
    return {f"{name}{suffix}": 100.0 * value for name, value in zip(QUALITIES, values, strict=True)}


def _cells(quality: ClassQuality | GroupQuality) -> list[str]:
    percent = [percent_text(value) for value in _percent(quality, "").values()]
    return percent + [str(count) for count in (quality.tp, quality.fp, quality.fn)]


def _record(quality: ClassQuality | GroupQuality) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in asdict(quality).items()
    }
