"""How predicted segments share out the true objects: how many are in use, split, merged, missed.

ARI says how good a segmentation is; these counts say what is wrong with it. They start from the
contingency tables of :mod:`slotseg.evaluation.clustering`. "Most" always means more than half of
the valid pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SegmentUsage:
    """One float64 number per image, ``[B]`` each; all but ``in_use`` are NaN without an object.

    Attributes:
        in_use: predicted segments that hold at least one valid pixel.
        per_object: mean over objects of the number of predicted segments that lie mostly in it.
        split: share of objects with two or more predicted segments that lie mostly in them.
        merged: share of objects that, together with another object, are mostly taken by one
            predicted segment (that is not mostly background).
        missed: share of objects that are mostly taken by a predicted segment which is mostly
            background, or by pixels in no predicted segment.
    """

    in_use: Tensor
    per_object: Tensor
    split: Tensor
    merged: Tensor
    missed: Tensor


@torch.no_grad()
def segment_usage(table: Tensor, is_object: Tensor, is_segment: Tensor) -> SegmentUsage:
    """Count used, split, merged and missed for every image of a batch.

    Args:
        table: float64 ``[B, P, T]`` pixel counts.
        is_object: bool ``[B, T]``, which true segments are objects.
        is_segment: bool ``[B, P]``, which rows are predicted segments; other rows hold pixels
            that were left unassigned.

    Raises:
        ValueError: shapes that do not fit together.
    """
    if table.dim() != 3 or is_object.shape != (table.shape[0], table.shape[2]):
        raise ValueError(f"is_object {list(is_object.shape)} does not fit {list(table.shape)}")
    if is_segment.shape != table.shape[:2]:
        raise ValueError(f"is_segment {list(is_segment.shape)} does not fit {list(table.shape)}")
    segment_area = table.sum(2)
    object_area = table.sum(1)
    visible = is_object & (object_area > 0)

    inside = (2 * table > segment_area[:, :, None]) & is_segment[:, :, None]
    takes = (2 * table > object_area[:, None, :]) & visible[:, None, :]
    on_objects = (table * is_object[:, None, :]).sum(2)
    background = ~is_segment | (2 * on_objects < segment_area)

    segments_inside = inside.sum(1)
    missed = (takes & background[:, :, None]).any(1)
    several = (takes.sum(2) > 1) & ~background
    merged = (takes & several[:, :, None]).any(1)
    count = visible.sum(1)
    # 0 / 0 is NaN: an image without objects has no share.
    return SegmentUsage(
        in_use=((segment_area > 0) & is_segment).sum(1).double(),
        per_object=(segments_inside * visible).sum(1).double() / count,
        split=((segments_inside > 1) & visible).sum(1).double() / count,
        merged=merged.sum(1).double() / count,
        missed=missed.sum(1).double() / count,
    )
