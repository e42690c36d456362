"""Masks of the upper level from those of the lower."""

from __future__ import annotations

from torch import Tensor


def parent_masks(masks: Tensor, parent_of: Tensor, num_parents: int) -> Tensor:
    """The mask of every parent: the sum over its sub-slots.

    Args:
        masks: ``[K, h, w]``, or ``[B, K, h, w]``; a softmax over K, so that the sums are one
            over the parents.
        parent_of: ``[K]`` int64 in 0..M-1, the parent of every slot.
        num_parents: M.

    Returns:
        ``[M, h, w]`` or ``[B, M, h, w]``, of the masks' dtype.

    Raises:
        ValueError: not one parent for every mask.
    """
    if parent_of.shape != masks.shape[-3:-2]:
        raise ValueError(
            f"{masks.shape[-3]} masks need as many parents, got {list(parent_of.shape)}"
        )
    sums = masks.new_zeros(*masks.shape[:-3], num_parents, *masks.shape[-2:])
    return sums.index_add(-3, parent_of.to(masks.device), masks)
