"""Trusted segments in the form that mappers give the truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from slotseg.semi.filtering import TrustedSegments, count, renumber

_OF_THE_VIEW = ("file_name", "image_id", "height", "width", "image")


def panoptic_sample(item: Mapping[str, Any], found: TrustedSegments) -> dict[str, Any]:
    """The student's view of an image with segments that have classes.

    Args:
        item: an unlabelled image, see :class:`~slotseg.semi.labeller.PseudoLabeller`.
        found: its segments in the teacher's view.
    """
    carried, shown = _carry(item, found)
    segments = [found.segments[number] for number in shown]
    thing = [bool(segment["isthing"]) for segment in segments]
    category = [segment["category_id"] for segment in segments]
    return {
        **{key: item[key] for key in _OF_THE_VIEW},
        "segment_map": renumber(carried, shown, len(found.segments)),
        "segment_category": torch.tensor(category, dtype=torch.int64),
        "segment_is_object": torch.tensor(thing, dtype=torch.bool),
        "segment_is_crowd": torch.zeros(len(shown), dtype=torch.bool),
        "segment_confidence": torch.tensor([found.confidence[n] for n in shown]).float(),
    }


def scene_sample(item: Mapping[str, Any], found: TrustedSegments) -> dict[str, Any]:
    """The student's view of an image with segments without classes, number 0 the background.

    The background is the segment that has most of the border of the teacher's view. It is listed
    where it was not trusted or is out of sight, too.

    Args:
        item, found: as of :func:`panoptic_sample`.
    """
    carried, shown = _carry(item, found)
    background = _background(found)
    objects = [number for number in shown if number != background]
    segment_map = renumber(carried, objects, len(found.segments))
    segment_map = torch.where(segment_map >= 0, segment_map + 1, segment_map)
    confidence = [1.0, *(found.confidence[number] for number in objects)]
    if background is not None:
        segment_map = segment_map.masked_fill(carried == background, 0)
        confidence[0] = found.confidence[background]
    return {
        **{key: item[key] for key in _OF_THE_VIEW},
        "segment_map": segment_map,
        "segment_is_object": torch.arange(1 + len(objects)) > 0,
        "segment_confidence": torch.tensor(confidence),
    }


def _carry(item: Mapping[str, Any], found: TrustedSegments) -> tuple[Tensor, list[int]]:
    """The map on the student's view, on the CPU, and the numbers of the segments in it."""
    carried = item["view"].carry(found.segment_map, -1).cpu()
    return carried, count(carried, len(found.segments)).nonzero()[:, 0].tolist()


def _background(found: TrustedSegments) -> int | None:
    """Its number among the trusted segments, None if it is none of them."""
    everywhere = found.predicted
    border = torch.cat([everywhere[0], everywhere[-1], everywhere[1:-1, 0], everywhere[1:-1, -1]])
    areas = count(border, int(everywhere.max()) + 1)
    if not len(areas) or not areas.any():
        return None
    of_background = (everywhere == areas.argmax()) & (found.segment_map >= 0)
    numbers = found.segment_map[of_background]
    return int(numbers[0]) if len(numbers) else None
