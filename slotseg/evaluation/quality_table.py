"""The scores of a panoptic evaluation as rows that people read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The key of a panoptic evaluation in a results dict.
PANOPTIC = "panoptic"
# What a column is, for reports and for readers of a results file.
QUALITY_DEFINITIONS: dict[str, str] = {
    "PQ": "Panoptic quality (Kirillov et al. 2019), percent: SQ x RQ of a class, mean over the "
    "classes that occur in the truth or in a prediction. A predicted and a true segment of the "
    "same class match if their IoU is above one half, so that no segment matches twice.",
    "SQ": "Segmentation quality, percent: mean IoU of the matched segments of a class, mean over "
    "classes.",
    "RQ": "Recognition quality, percent: F1 score of finding the segments of a class, TP / (TP + "
    "FP / 2 + FN / 2), mean over classes.",
    "things": "Countable classes; each instance is a segment of its own.",
    "stuff": "Classes without instances; one segment an image.",
    "void and crowd": "Void pixels do not count. A prediction that lies mostly in void or in a "
    "crowd region of its class is no false positive, and crowd regions are never missed.",
}
QUALITIES = ("PQ", "SQ", "RQ")
# Groups of classes in the order they are shown, and how the names of their flat scores end.
GROUP_SUFFIXES = {"all": "", "things": "_things", "stuff": "_stuff"}


def percent_text(value: float) -> str:
    """A score in percent with two decimals; "-" where it is not defined."""
    return "-" if math.isnan(value) else f"{value:.2f}"


def setting_text(
    num_classes: int | None = None, images: int | None = None, images_expected: int | None = None
) -> str:
    """What was scored, in words, as far as it is known; a part of a set is called one."""
    parts = []
    if num_classes is not None:
        parts.append(f"{num_classes} classes")
    if images is not None:
        of_all = "" if images_expected in (None, images) else f" of {images_expected}"
        parts.append(f"{images}{of_all} images")
    return ", ".join(parts)


@dataclass(frozen=True)
class QualityRow:
    """One line: a group of classes, or one class.

    Attributes:
        name: "all", "things", "stuff", or the class.
        scores: PQ, SQ and RQ in percent; NaN where it is not defined.
    """

    name: str
    scores: dict[str, float]


@dataclass(frozen=True)
class QualityTable:
    """Scores on one data set.

    Attributes:
        groups: all, and things and stuff as far as the set has them.
        classes: one row a class, in the set's order.
        num_classes: classes that the mean is taken over.
        images, images_expected: scored, and in the set.
    """

    groups: list[QualityRow]
    classes: list[QualityRow]
    num_classes: int | None = None
    images: int | None = None
    images_expected: int | None = None

    @property
    def setting(self) -> str:
        """Classes and images in words, see :func:`setting_text`."""
        return setting_text(self.num_classes, self.images, self.images_expected)


def quality_table(scores: Mapping[str, Any]) -> QualityTable:
    """Sort the flat scores of :class:`PanopticQualityEvaluator` into rows.

    Args:
        scores: ``{"PQ": ..., "PQ_things": ..., "PQ-car": ..., "classes": ...}``; ``None`` and NaN
            say that a score is not defined.
    """
    groups = [QualityRow(name, _row(scores, suffix)) for name, suffix in GROUP_SUFFIXES.items()]
    named = dict.fromkeys(
        key.partition("-")[2]
        for key in scores
        if any(key.startswith(f"{quality}-") for quality in QUALITIES)
    )
    return QualityTable(
        groups=[row for row in groups if row.scores],
        classes=[QualityRow(name, _row(scores, f"-{name}")) for name in named],
        num_classes=_count(scores, "classes"),
        images=_count(scores, "images"),
        images_expected=_count(scores, "images_expected"),
    )


def _row(scores: Mapping[str, Any], suffix: str) -> dict[str, float]:
    found = {quality: scores.get(quality + suffix) for quality in QUALITIES}
    if all(quality + suffix not in scores for quality in QUALITIES):
        return {}
    return {quality: math.nan if v is None else float(v) for quality, v in found.items()}


def _count(scores: Mapping[str, Any], key: str) -> int | None:
    value = scores.get(key)
    return None if value is None else int(value)
