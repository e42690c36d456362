"""Panoptic segments from queries (or slots) that each have class probabilities and one mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from slotseg.ops.competition import compete


@torch.no_grad()
def confident_queries(class_probs: Tensor, object_threshold: float) -> Tensor:
    """The queries that stand for something.

    Args:
        class_probs: ``[K, C + 1]``; the last column is "no object".
        object_threshold: a query needs a class probability above this.

    Returns:
        Indices of the queries whose most probable entry is a class, ascending, ``[K']`` int64.
    """
    scores, classes = class_probs.max(dim=1)
    return ((classes < class_probs.shape[1] - 1) & (scores > object_threshold)).nonzero()[:, 0]


@torch.no_grad()
def panoptic_inference(
    class_probs: Tensor,
    mask_probs: Tensor,
    size: tuple[int, int],
    is_thing: Sequence[bool],
    *,
    object_threshold: float = 0.8,
    overlap_threshold: float = 0.8,
    mask_threshold: float = 0.5,
    min_area: int = 1,
    upsample: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Panoptic segmentation by the rule of MaskFormer (Cheng et al. 2021, section 3.4), which
    Mask2Former and EoMT use too.

    Confident queries compete: a pixel goes to the query with the highest class probability times
    mask there, if that mask is at least ``mask_threshold``. A query that keeps less than
    ``overlap_threshold`` of its own mask is left out, its pixels stay empty. Queries of one stuff
    class become one segment.

    Args:
        class_probs: ``[K, C + 1]`` in 0..1; the last column is "no object".
        mask_probs: ``[K, h, w]`` in 0..1, at any resolution.
        size: (height, width) of the result in pixels.
        is_thing: one entry a class, C in all.
        object_threshold: least class probability of a query, exclusive.
        overlap_threshold: least share of its mask that a query has to win.
        mask_threshold: a mask holds the pixels where it is at least this; 0 for masks that share
            out every pixel among themselves (``overlap_threshold`` then has to be 0).
        min_area: queries that win fewer pixels than this are left out, their pixels stay empty.
        upsample: how some of the masks, ``[k, h, w]``, become probabilities of ``size``,
            ``[k, height, width]``; default: bilinear. A caller with logits, or with padding to cut
            off, gives its own; ``mask_probs`` may then be whatever it takes.

    Returns:
        Segment ids ``[height, width]`` int32, 0 for nothing and otherwise 1, 2, ... without gaps,
        and the segments in this order: ``id``, ``category_id`` (the class), ``isthing``, ``area``
        in pixels, ``score``, the class probability (of several merged queries the highest), and
        ``confidence``, the mean over its pixels of class probability times mask.
    """
    if class_probs.shape[1] != len(is_thing) + 1:
        raise ValueError(
            f"class_probs has {class_probs.shape[1]} columns for {len(is_thing)} classes and "
            "'no object'"
        )
    kept = confident_queries(class_probs, object_threshold)
    if len(kept) == 0:
        return torch.zeros(size, dtype=torch.int32, device=mask_probs.device), []
    scores, classes = class_probs[kept].float().max(dim=1)
    found = compete(
        mask_probs[kept], size, scores=scores, threshold=mask_threshold, upsample=upsample
    )
    won = torch.bincount(found.winner.flatten(), minlength=len(kept))
    areas = torch.bincount(found.winner[found.inside], minlength=len(kept))
    id_of_query, segments_info = _merge(
        scores.tolist(),
        classes.tolist(),
        won.tolist(),
        areas.tolist(),
        found.areas.tolist(),
        found.mean_strength().tolist(),
        is_thing,
        overlap_threshold,
        min_area,
    )
    ids = torch.tensor(id_of_query, dtype=torch.int32, device=mask_probs.device)[found.winner]
    return ids.masked_fill_(~found.inside, 0), segments_info


def _merge(
    scores: list[float],
    classes: list[int],
    won: list[int],
    areas: list[int],
    mask_areas: list[int],
    strengths: list[float],
    is_thing: Sequence[bool],
    overlap_threshold: float,
    min_area: int,
) -> tuple[list[int], list[dict[str, Any]]]:
    """The segment id of every query, 0 for those left out, and the segments."""
    id_of_query = [0] * len(scores)
    segments_info: list[dict[str, Any]] = []
    stuff: dict[int, dict[str, Any]] = {}
    for query, category in enumerate(classes):
        too_small = areas[query] < max(min_area, 1)
        if too_small or won[query] < overlap_threshold * mask_areas[query]:
            continue
        segment = None if is_thing[category] else stuff.get(category)
        if segment is None:
            segment = {
                "id": len(segments_info) + 1,
                "category_id": category,
                "isthing": bool(is_thing[category]),
                "area": 0,
                "score": 0.0,
                "confidence": 0.0,
            }
            segments_info.append(segment)
            if not is_thing[category]:
                stuff[category] = segment
        share = areas[query] / (segment["area"] + areas[query])
        segment["confidence"] += share * (strengths[query] - segment["confidence"])
        segment["area"] += areas[query]
        segment["score"] = max(segment["score"], scores[query])
        id_of_query[query] = segment["id"]
    return id_of_query, segments_info
