"""Scores of a segmentation seen as a clustering of pixels: ARI, FG-ARI, mBO, mIoU.

Everything starts from one contingency table per image, ``table[b, p, t]``: the number of valid
pixels of image ``b`` that lie in predicted segment ``p`` and in true segment ``t``. Tables are
float64, and all arithmetic stays in float64: at 1024x2048 the products of pixel counts no longer
fit int64, and float32 would lose the digits that matter.

Scores lie in [0, 1] (ARI may be slightly negative) and are one number per image. An image that
does not define a score (no valid pixel, no object) gets NaN, so that callers can leave it out
and count it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

# n * n has to stay below 2**53 for pair counts to be exact integers in float64.
_MAX_PIXELS = 94_906_265

_Function = TypeVar("_Function", bound=Callable[..., object])


def _outside_autocast(function: _Function) -> _Function:
    """Run ``function`` without gradients and with autocast off, whatever the caller has on."""

    @wraps(function)
    def wrapper(tensor: Tensor, *args: object, **kwargs: object) -> object:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{function.__name__} needs a torch tensor, got {type(tensor)}")
        with torch.no_grad(), torch.autocast(tensor.device.type, enabled=False):
            return function(tensor, *args, **kwargs)

    return wrapper  # type: ignore[return-value]


@_outside_autocast
def contingency_table(
    pred: Tensor,
    true: Tensor,
    num_pred: int,
    num_true: int,
    valid: Tensor | None = None,
) -> Tensor:
    """Count the pixels of every pair of predicted and true segments, for a batch at once.

    Args:
        pred: integer ``[B, ...]``, predicted segment of every pixel, ``0 .. num_pred - 1``; -1 is
            void.
        true: integer, same shape, true segment of every pixel, ``0 .. num_true - 1``; -1 is void.
        num_pred: number of rows of each table.
        num_true: number of columns of each table.
        valid: optional bool, same shape; pixels that are False are left out.

    Returns:
        float64 ``[B, num_pred, num_true]``. Pixels that are void on either side are in no cell.

    Raises:
        ValueError: shapes that differ, types that are not integer, or segments out of range.
        TypeError: not tensors.
    """
    _check_maps(pred, true, valid)
    if num_pred < 1 or num_true < 1:
        raise ValueError(f"num_pred and num_true must be at least 1, got {num_pred}, {num_true}")
    batch = pred.shape[0]
    pred = pred.reshape(batch, -1).long()
    true = true.reshape(batch, -1).long()
    for name, labels, count in (("pred", pred, num_pred), ("true", true, num_true)):
        if labels.numel() and (labels.min() < -1 or labels.max() >= count):
            raise ValueError(
                f"{name} holds segment ids from {int(labels.min())} to {int(labels.max())}; "
                f"they must lie in -1 (void) .. {count - 1}"
            )
    keep = (pred >= 0) & (true >= 0)
    if valid is not None:
        keep &= valid.reshape(batch, -1)
    offset = torch.arange(batch, device=pred.device)[:, None] * (num_pred * num_true)
    cell = (offset + pred * num_true + true)[keep]
    counts = torch.bincount(cell, minlength=batch * num_pred * num_true)
    return counts.view(batch, num_pred, num_true).double()


@_outside_autocast
def adjusted_rand_index(table: Tensor) -> Tensor:
    """Adjusted Rand index (Hubert and Arabie, 1985) of every table.

    Computed from the four counts of ordered pixel pairs (together in both, in one, in the other,
    in neither) as in Steinley (2004). The counts are exact integers in float64 and only their
    products are rounded, so the error stays near 1e-15 for any image size; the textbook form
    subtracts two numbers of nearly equal size and loses digits on large images.

    Args:
        table: float64 ``[B, P, T]`` pixel counts.

    Returns:
        float64 ``[B]``; 1 where both sides are the same partition (one segment on both sides
        included), 0 is chance; NaN where the table is empty.
    """
    _check_table(table)
    pixels = table.sum((1, 2))
    if pixels.numel() and pixels.max() > _MAX_PIXELS:
        raise ValueError(
            f"{int(pixels.max())} pixels in one image: pair counts are exact only up to "
            f"{_MAX_PIXELS}; score a smaller image"
        )
    squares = (table * table).sum((1, 2))
    pred_squares = table.sum(2).square().sum(1)
    true_squares = table.sum(1).square().sum(1)
    both = squares - pixels
    only_pred = pred_squares - squares
    only_true = true_squares - squares
    neither = pixels.square() - only_pred - only_true - squares
    numerator = 2 * (both * neither - only_pred * only_true)
    denominator = (both + only_true) * (only_true + neither) + (both + only_pred) * (
        only_pred + neither
    )
    same = (only_pred == 0) & (only_true == 0)
    score = torch.where(same, 1.0, numerator / torch.where(same, 1.0, denominator))
    return torch.where(pixels > 0, score, torch.nan)


@_outside_autocast
def foreground_adjusted_rand_index(table: Tensor, is_object: Tensor) -> Tensor:
    """Adjusted Rand index over the pixels whose true segment is an object (FG-ARI).

    Predicted segments that stand for the background stay: pixels of an object that they take
    count against the score.

    Args:
        table: float64 ``[B, P, T]`` pixel counts.
        is_object: bool ``[B, T]``, which true segments are objects.

    Returns:
        float64 ``[B]``; NaN where no valid pixel belongs to an object.
    """
    _check_table(table)
    _check_flags("is_object", is_object, table.shape[0], table.shape[2])
    return adjusted_rand_index(table * is_object[:, None, :])


@_outside_autocast
def pairwise_iou(table: Tensor) -> Tensor:
    """Intersection over union of every predicted with every true segment.

    Args:
        table: float64 ``[B, P, T]`` pixel counts.

    Returns:
        float64 ``[B, P, T]``; 0 where both segments are empty.
    """
    _check_table(table)
    union = table.sum(2, keepdim=True) + table.sum(1, keepdim=True) - table
    return table / union.clamp(min=1)


@_outside_autocast
def mean_best_overlap(table: Tensor, is_object: Tensor, is_segment: Tensor | None = None) -> Tensor:
    """Mean over true objects of the best IoU with any predicted segment (mBO).

    A predicted segment may be the best of several objects. Objects without a valid pixel are not
    counted.

    Args:
        table: float64 ``[B, P, T]`` pixel counts.
        is_object: bool ``[B, T]``, which true segments are objects (the background is not one).
        is_segment: optional bool ``[B, P]``, which rows are predicted segments; a row of pixels
            that the model left unassigned is not one, but its pixels still count in the unions.

    Returns:
        float64 ``[B]``; NaN where an image shows no object.
    """
    iou, visible = _object_iou(table, is_object, is_segment)
    return _mean_where(iou.amax(1), visible)


@_outside_autocast
def hungarian_mean_iou(
    table: Tensor, is_object: Tensor, is_segment: Tensor | None = None
) -> Tensor:
    """Mean over true objects of the IoU under the best one-to-one matching (mIoU).

    The matching maximises the sum of IoUs (Kuhn, 1955). Every visible object counts: those
    beyond the number of predicted segments stay unmatched and score 0.

    Args:
        table: float64 ``[B, P, T]`` pixel counts.
        is_object: bool ``[B, T]``, which true segments are objects.
        is_segment: optional bool ``[B, P]``, which rows are predicted segments.

    Returns:
        float64 ``[B]``; NaN where an image shows no object.
    """
    iou, visible = _object_iou(table, is_object, is_segment)
    matched = torch.zeros_like(visible, dtype=torch.float64)
    for image, (scores, objects) in enumerate(zip(iou, visible, strict=True)):
        rows, columns = linear_sum_assignment(scores[:, objects].cpu().numpy(), maximize=True)
        index = objects.nonzero().squeeze(1)[torch.as_tensor(columns, device=iou.device)]
        matched[image, index] = scores[torch.as_tensor(rows, device=iou.device), index]
    return _mean_where(matched, visible)


def _object_iou(
    table: Tensor, is_object: Tensor, is_segment: Tensor | None
) -> tuple[Tensor, Tensor]:
    """IoU ``[B, P, T]`` with rows that are no segment set to 0, and visible objects ``[B, T]``."""
    _check_table(table)
    _check_flags("is_object", is_object, table.shape[0], table.shape[2])
    iou = pairwise_iou(table)
    if is_segment is not None:
        _check_flags("is_segment", is_segment, table.shape[0], table.shape[1])
        iou = iou * is_segment[:, :, None]
    return iou, is_object & (table.sum(1) > 0)


def _mean_where(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of ``values`` ``[B, N]`` over the True entries of ``counted``; NaN where none is."""
    return torch.where(counted, values, 0.0).sum(1) / counted.sum(1)


def _check_maps(pred: Tensor, true: Tensor, valid: Tensor | None) -> None:
    for name, labels in (("pred", pred), ("true", true)):
        if not isinstance(labels, Tensor):
            raise TypeError(f"{name} must be a torch tensor, got {type(labels)}")
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise ValueError(f"{name} must hold integer segment ids, got {labels.dtype}")
    if pred.shape != true.shape or pred.dim() < 2:
        raise ValueError(
            f"pred and true must have one shape [B, ...], got {tuple(pred.shape)} and "
            f"{tuple(true.shape)}"
        )
    if valid is not None and (valid.shape != pred.shape or valid.dtype != torch.bool):
        raise ValueError(
            f"valid must be bool {tuple(pred.shape)}, got {valid.dtype} {tuple(valid.shape)}"
        )


def _check_table(table: Tensor) -> None:
    if table.dim() != 3 or table.dtype != torch.float64:
        raise ValueError(
            "a table must be float64 [B, P, T] (see contingency_table), got "
            f"{table.dtype} {tuple(table.shape)}"
        )
    if 0 in table.shape[1:]:
        raise ValueError(f"a table needs at least one row and column, got {tuple(table.shape)}")
    if not bool(((table >= 0) & table.isfinite()).all()):
        raise ValueError("a table holds pixel counts: finite and not negative")


def _check_flags(name: str, flags: Tensor, batch: int, count: int) -> None:
    if not isinstance(flags, Tensor):
        raise TypeError(f"{name} must be a torch tensor, got {type(flags)}")
    if flags.dtype != torch.bool or flags.shape != (batch, count):
        raise ValueError(
            f"{name} must be bool [{batch}, {count}], got {flags.dtype} {list(flags.shape)}"
        )
