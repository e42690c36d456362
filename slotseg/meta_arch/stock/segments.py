"""Panoptic predictions of Detectron2's models in the terms of this project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from slotseg.classes import ClassSet

PanopticSegments = tuple[Tensor, list[dict[str, Any]]]


def from_merged_ids(
    ids: Tensor, segments_info: list[dict[str, Any]], classes: ClassSet
) -> PanopticSegments:
    """Panoptic FPN's answer: classes become contiguous ones, and every segment has an area.

    Args:
        ids: ``[height, width]`` int32, 0 for nothing.
        segments_info: things by their number among things, stuff by its number from 1 on.
        classes: of the set.

    Returns:
        The same ids and one dict a segment with ``id``, ``category_id``, ``isthing``, ``area`` in
        pixels and, for things, ``score`` in 0..1. Segments without a pixel are not listed.
    """
    areas = torch.bincount(ids.flatten().long(), minlength=len(segments_info) + 1).tolist()
    found = []
    for segment in segments_info:
        number, thing = segment["category_id"], segment["isthing"]
        entry = {
            "id": segment["id"],
            "category_id": classes.things[number] if thing else classes.stuff[number - 1],
            "isthing": thing,
            "area": areas[segment["id"]],
        }
        if "score" in segment:
            entry["score"] = segment["score"]
        if entry["area"] > 0:
            found.append(entry)
    return ids, found


def add_confidence(
    segments: PanopticSegments, probs: Tensor, number_of_class: Mapping[int, int]
) -> PanopticSegments:
    """Tell how sure the semantic branch is of the segments that have no ``score``.

    Args:
        segments: ids ``[height, width]`` and the segments.
        probs: ``[N, height, width]`` of that branch, sum to 1 over N.
        number_of_class: which of the N a contiguous class is.

    Returns:
        The same with ``confidence``, the mean probability of its class over a segment's pixels, of
        segments of these classes.
    """
    ids, segments_info = segments
    told = [s for s in segments_info if "score" not in s and s["category_id"] in number_of_class]
    for segment in told:
        sure = probs[number_of_class[segment["category_id"]]][ids == segment["id"]]
        segment["confidence"] = float(sure.double().mean())
    return segments


def from_class_and_instance(labels: Tensor, divisor: int, classes: ClassSet) -> PanopticSegments:
    """Panoptic-DeepLab's answer.

    Args:
        labels: ``[height, width]`` int64, class times ``divisor`` plus instance, negative for
            nothing.
        divisor: more than there are instances of a class.
        classes: of the set.

    Returns:
        As :func:`from_merged_ids`, ids counted from 1, without scores.
    """
    values, which, counts = labels.unique(return_inverse=True, return_counts=True)
    taken = values >= 0
    id_of_value = taken.cumsum(0) * taken
    found = [
        {
            "id": number,
            "category_id": value // divisor,
            "isthing": classes.is_thing[value // divisor],
            "area": area,
        }
        for number, (value, area) in enumerate(
            zip(values[taken].tolist(), counts[taken].tolist(), strict=True), start=1
        )
    ]
    return id_of_value[which].to(torch.int32), found
