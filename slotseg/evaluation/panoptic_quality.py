"""Panoptic quality, exactly as COCO defines it, as pure functions in float64.

Kirillov, He, Girshick, Rother, Dollár: "Panoptic Segmentation", CVPR 2019, section 4 and the
reference evaluation that was published with it (crowd and void, sections 4.1 and 4.2):

- A predicted and a true segment of one class match if their IoU is above one half, where
  ``union = area_pred + area_true - intersection - (pixels of the prediction on void)``. At most one
  pair per segment can be that good. A crowd region never matches.
- FN: a true segment without a match that is not crowd.
- FP: a predicted segment without a match, unless more than half of it lies on void and on crowd
  regions of its own class.
- Per class ``SQ = sum of IoU / TP``, ``RQ = TP / (TP + FP/2 + FN/2)``, ``PQ = SQ x RQ``; averages
  run over the classes with ``TP + FP + FN > 0``.

Two choices where published evaluations differ or the definition is silent:

- **Several crowd regions of one class in one image**: all of them excuse predictions, as the
  definition says. The published code remembers only the last one of a class, so that a prediction
  on an earlier one counts as FP there. COCO's own truth has at most one a class and image.
- **Area of a true segment**: counted in the map. The published code takes ``area`` of the JSON. On
  consistent files that is the same number; on others (a JSON beside maps that were resized) IoUs
  could exceed one there.

An id that is in the map and not listed, or the reverse, is an error on both sides.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slotseg.errors import DatasetError

VOID = 0
"""The id of pixels that belong to no segment."""

_IOU_BITS = 53
_EXAMPLES = 5


@dataclass(frozen=True)
class SegmentMap:
    """One image's segments: the truth, or a prediction.

    Attributes:
        ids: integers ``[H, W]``; 0 is void (the truth) or nothing (a prediction).
        segments: one mapping a segment with ``id`` (above 0), ``category_id`` and, in the truth,
            ``iscrowd`` (0 if it is not given). Exactly the ids of the map.
        source: where it comes from, for error messages: a file, or words.
    """

    ids: np.ndarray
    segments: Sequence[Mapping[str, Any]]
    source: str


@dataclass
class PanopticCounts:
    """What panoptic quality is computed from; as large for one image as for a million.

    Counts of images, of batches and of ranks are added with ``+=``. The sum of IoUs is exact: a
    matched IoU is a float64 in (0.5, 1], a multiple of 2**-53, and is summed as that whole number.
    So neither the order of images nor the number of ranks changes a single bit of a score.

    Attributes:
        iou: per class the sum of matched IoUs, in units of 2**-53.
        tp, fp, fn: per class.
        images: how many were counted.
    """

    iou: list[int]
    tp: list[int]
    fp: list[int]
    fn: list[int]
    images: int = 0

    @classmethod
    def zeros(cls, num_classes: int) -> PanopticCounts:
        """Nothing counted yet."""
        return cls(*([0] * num_classes for _ in range(4)))

    def __iadd__(self, other: PanopticCounts) -> PanopticCounts:
        for name in ("iou", "tp", "fp", "fn"):
            pairs = zip(getattr(self, name), getattr(other, name), strict=True)
            setattr(self, name, [a + b for a, b in pairs])
        self.images += other.images
        return self


@dataclass(frozen=True)
class ClassQuality:
    """One class. Scores are fractions; NaN if the class is neither in the truth nor predicted."""

    pq: float
    sq: float
    rq: float
    tp: int
    fp: int
    fn: int


@dataclass(frozen=True)
class GroupQuality:
    """A mean over classes, as fractions; NaN if none of them occurs.

    Attributes:
        pq, sq, rq: means over the classes that occur in the truth or in a prediction.
        tp, fp, fn: sums over the classes.
        classes: how many occur.
    """

    pq: float
    sq: float
    rq: float
    tp: int
    fp: int
    fn: int
    classes: int


def count_image(
    truth: SegmentMap, prediction: SegmentMap, categories: Mapping[int, int]
) -> PanopticCounts:
    """Match the segments of one image.

    Args:
        truth: the true segments.
        prediction: the predicted ones, in a map of the same size.
        categories: from the ``category_id`` of segments to class numbers 0..C-1.

    Returns:
        The counts of this image, C classes.

    Raises:
        DatasetError: maps of different sizes, ids that are in the map only or in the list only,
            listed twice or not positive, an unknown category; names the source and the id.
    """
    _check_sizes(truth, prediction)
    true, pred = _list_segments(truth, categories), _list_segments(prediction, categories)
    table = _intersections(truth, true, prediction, pred)
    true_area, pred_area = table.sum(1)[1:], table.sum(0)[1:]
    _check_present(truth, true, true_area)
    _check_present(prediction, pred, pred_area)

    intersection, on_void = table[1:, 1:], table[0, 1:]
    same_class = true.classes[:, None] == pred.classes
    union = true_area[:, None] + (pred_area - on_void) - intersection
    iou = intersection / union  # a true segment has a pixel, so no union is empty
    match = same_class & ~true.is_crowd[:, None] & (iou > 0.5)
    rows, columns = np.nonzero(match)

    on_own_crowd = (intersection * (same_class & true.is_crowd[:, None])).sum(0)
    excused = (on_void + on_own_crowd) / pred_area > 0.5
    false_positive = ~match.any(0) & ~excused
    false_negative = ~match.any(1) & ~true.is_crowd

    num_classes = len(set(categories.values()))
    sums = [0] * num_classes
    for number, value in zip(true.classes[rows].tolist(), iou[rows, columns].tolist(), strict=True):
        sums[number] += int(math.ldexp(value, _IOU_BITS))
    tp, fp, fn = (
        np.bincount(classes, minlength=num_classes).tolist()
        for classes in (
            true.classes[rows],
            pred.classes[false_positive],
            true.classes[false_negative],
        )
    )
    return PanopticCounts(sums, tp, fp, fn, images=1)


def class_qualities(counts: PanopticCounts) -> list[ClassQuality]:
    """PQ, SQ and RQ of every class; a class without a match that occurs has 0 in all three."""
    qualities = []
    for iou, tp, fp, fn in zip(counts.iou, counts.tp, counts.fp, counts.fn, strict=True):
        if tp + fp + fn == 0:
            qualities.append(ClassQuality(math.nan, math.nan, math.nan, 0, 0, 0))
            continue
        iou_sum = iou / 2**_IOU_BITS
        size = tp + 0.5 * fp + 0.5 * fn
        sq = iou_sum / tp if tp else 0.0
        qualities.append(ClassQuality(iou_sum / size, sq, tp / size, tp, fp, fn))
    return qualities


def group_quality(qualities: Iterable[ClassQuality]) -> GroupQuality:
    """Mean over the classes that occur, each with the same weight."""
    found = [quality for quality in qualities if quality.tp + quality.fp + quality.fn > 0]

    def mean(name: str) -> float:
        values = [getattr(quality, name) for quality in found]
        return math.fsum(values) / len(values) if values else math.nan

    def total(name: str) -> int:
        return sum(getattr(quality, name) for quality in found)

    return GroupQuality(
        *(mean(name) for name in ("pq", "sq", "rq")),
        *(total(name) for name in ("tp", "fp", "fn")),
        classes=len(found),
    )


@dataclass(frozen=True)
class _Listed:
    """``segments`` as arrays in the order of their ids.

    Attributes:
        ids: int64 ``[S + 1]``, void first.
        classes: int64 ``[S]``.
        is_crowd: bool ``[S]``.
    """

    ids: np.ndarray
    classes: np.ndarray
    is_crowd: np.ndarray


def _check_sizes(truth: SegmentMap, prediction: SegmentMap) -> None:
    for segment_map in (truth, prediction):
        ids = segment_map.ids
        if ids.ndim != 2 or ids.dtype.kind not in "iu" or ids.size == 0:
            raise DatasetError(
                f"{segment_map.source}: segment ids of type {ids.dtype} and shape "
                f"{list(ids.shape)}, expected integers [H, W]"
            )
    if truth.ids.shape != prediction.ids.shape:
        raise DatasetError(
            f"{prediction.source}: {_size(prediction)} pixels, but the truth ({truth.source}) has "
            f"{_size(truth)}; predict at the full size of the image"
        )


def _size(segment_map: SegmentMap) -> str:
    height, width = segment_map.ids.shape
    return f"{width}x{height}"


def _list_segments(segment_map: SegmentMap, categories: Mapping[int, int]) -> _Listed:
    rows = []
    for segment in segment_map.segments:
        try:
            number = operator.index(segment["id"])
            category = operator.index(segment["category_id"])
        except (KeyError, TypeError) as error:
            raise DatasetError(
                f"{segment_map.source}: a segment is {segment!r}, expected whole numbers as "
                '"id" and "category_id"'
            ) from error
        if number <= VOID:
            raise DatasetError(
                f"{segment_map.source}: segment id {number} is listed, but ids start at 1 "
                f"({VOID} is void)"
            )
        if category not in categories:
            raise DatasetError(
                f"{segment_map.source}: segment {number} has the unknown category_id {category}; "
                f"known are {_some(sorted(categories))}"
            )
        rows.append((number, categories[category], bool(segment.get("iscrowd", 0))))
    rows.sort()
    ids = np.array([VOID, *(row[0] for row in rows)], np.int64)
    repeated = ids[1:][ids[1:] == ids[:-1]]
    if repeated.size:
        raise DatasetError(f"{segment_map.source}: segment {repeated[0]} is listed twice")
    return _Listed(
        ids,
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], bool),
    )


def _intersections(
    truth: SegmentMap, true: _Listed, prediction: SegmentMap, pred: _Listed
) -> np.ndarray:
    """Pixels of every pair of a true and a predicted segment, void first: int64 ``[T+1, P+1]``.

    Segment maps are runs of equal pixels. Only the first pixel of a run is looked up, whatever the
    ids are, and one bincount over combined numbers adds the lengths of the runs: sums of whole
    numbers below 2**53, which float64 holds exactly.
    """
    true_flat, pred_flat = truth.ids.reshape(-1), prediction.ids.reshape(-1)
    changes = true_flat[1:] != true_flat[:-1]
    changes |= pred_flat[1:] != pred_flat[:-1]
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
    lengths = np.diff(starts, append=true_flat.size)
    rows = _positions(truth, true, true_flat[starts])
    columns = _positions(prediction, pred, pred_flat[starts])
    shape = len(true.ids), len(pred.ids)
    combined = rows * shape[1] + columns
    table = np.bincount(combined, weights=lengths, minlength=shape[0] * shape[1])
    return table.astype(np.int64).reshape(shape)


def _positions(segment_map: SegmentMap, listed: _Listed, ids: np.ndarray) -> np.ndarray:
    positions = np.searchsorted(listed.ids, ids)
    positions[positions == len(listed.ids)] = 0
    strangers = np.unique(ids[listed.ids[positions] != ids])
    if strangers.size:
        raise DatasetError(
            f"{segment_map.source}: segment ids {_some(strangers.tolist())} are in the map, but "
            "not in segments_info"
        )
    return positions


def _check_present(segment_map: SegmentMap, listed: _Listed, areas: np.ndarray) -> None:
    absent = listed.ids[1:][areas == 0]
    if absent.size:
        raise DatasetError(
            f"{segment_map.source}: segment ids {_some(absent.tolist())} are in segments_info, but "
            "no pixel of the map has them"
        )


def _some(numbers: Sequence[int]) -> str:
    """The first few of a list."""
    more = f" and {len(numbers) - _EXAMPLES} more" if len(numbers) > _EXAMPLES else ""
    return ", ".join(str(number) for number in numbers[:_EXAMPLES]) + more
