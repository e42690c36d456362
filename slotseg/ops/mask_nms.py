"""Duplicate slots: two that claim the same pixels."""

from __future__ import annotations

import torch
from torch import Tensor

# A slot claims a pixel where its mask is at least this. Low on purpose: where two slots share an
# object, the weaker one often has little of each pixel.
_CLAIM = 0.05


@torch.no_grad()
def distinct_slots(masks: Tensor, max_iou: float) -> Tensor:
    """Leave out slots that claim the same pixels as a stronger one.

    The masks of two slots that both hold an object overlap, and the object falls apart wherever
    the winner changes. Of the two whose claims overlap most, the one that wins fewer pixels is
    left out and its share given to the others (their masks are normalised again), until no two
    claims overlap by more than ``max_iou``: non-maximum suppression over soft masks.

    Args:
        masks: ``[K, h, w]``, softmax over K.
        max_iou: largest intersection over union of two claims, in (0, 1]; 1 leaves everything.

    Returns:
        Indices of the slots that stay and win at least one pixel, ascending, ``[K']`` int64.
    """
    pixels = masks.flatten(1).float()
    kept = pixels.argmax(dim=0).unique()
    while len(kept) > 1:
        shares = pixels[kept]
        shares = shares / shares.sum(dim=0).clamp_min(1e-12)
        won = torch.bincount(shares.argmax(dim=0), minlength=len(kept))
        overlap = _pairwise_iou(shares >= _CLAIM)
        first, second = divmod(int(overlap.argmax()), len(kept))
        if overlap[first, second] <= max_iou:
            break
        weaker = first if won[first] < won[second] else second
        kept = torch.cat([kept[:weaker], kept[weaker + 1 :]])
    return kept


def _pairwise_iou(claims: Tensor) -> Tensor:
    """``[K, P]`` bool to ``[K, K]``, zero on the diagonal."""
    claims = claims.float()
    intersection = claims @ claims.T
    area = claims.sum(dim=1)
    union = area[:, None] + area[None, :] - intersection
    return (intersection / union.clamp_min(1.0)).fill_diagonal_(0.0)
