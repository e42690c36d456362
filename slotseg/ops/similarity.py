"""Similarity between the slots of an image."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def mean_pairwise_cosine(slots: Tensor) -> Tensor:
    """Mean absolute cosine similarity over all ordered pairs of different slots.

    1 means that all slots are parallel (collapsed), 0 that they are orthogonal.

    Args:
        slots: ``[B, K, D]``, computed in float32 whatever the dtype.

    Returns:
        ``[B]``; zeros when there is only one slot.
    """
    unit = F.normalize(slots.float(), dim=-1)
    num_slots = unit.shape[1]
    if num_slots < 2:
        return unit.new_zeros(unit.shape[0])
    cosine = unit @ unit.transpose(1, 2)
    off_diagonal = cosine.abs().sum(dim=(1, 2)) - cosine.diagonal(dim1=1, dim2=2).abs().sum(dim=1)
    return off_diagonal / (num_slots * (num_slots - 1))
