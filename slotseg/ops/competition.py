"""Who has the strongest mask at every pixel, without all masks at full size at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Values of float32 masks that are brought to full size at once, 16 MiB: memory does not grow with
# the number of masks, and small images still take few steps.
_VALUES_AT_ONCE = 2**22


@dataclass(frozen=True)
class Competition:
    """The outcome for every pixel of ``[H, W]``.

    Attributes:
        winner: ``[H, W]`` int64, the number of the mask that is strongest there.
        inside: ``[H, W]`` bool, whether that mask reaches the threshold there.
        areas: ``[K]`` int64, the pixels where each mask reaches the threshold, won or not.
        strength: ``[H, W]`` float32, the winner's score times its mask there.
    """

    winner: Tensor
    inside: Tensor
    areas: Tensor
    strength: Tensor

    def mean_strength(self) -> Tensor:
        """``[K]`` float64, of every mask over the pixels that it won inside of itself; else 0."""
        winner = self.winner[self.inside]
        total = torch.bincount(
            winner, weights=self.strength[self.inside].double(), minlength=len(self.areas)
        )
        return total / torch.bincount(winner, minlength=len(self.areas)).clamp_min(1)


@torch.no_grad()
def compete(
    masks: Tensor,
    size: tuple[int, int],
    *,
    scores: Tensor | None = None,
    threshold: float = 0.0,
    upsample: Callable[[Tensor], Tensor] | None = None,
) -> Competition:
    """A running maximum over as many masks at a time as fit into a fixed memory.

    Args:
        masks: ``[K, h, w]`` with K at least 1, at any resolution.
        size: (H, W) of the result.
        scores: ``[K]``, factors of the masks in the comparison; None: 1.
        threshold: see :class:`Competition`.
        upsample: some of the masks, ``[k, h, w]``, to ``[k, H, W]``; None: bilinear.

    Returns:
        The outcome; of equals the first mask wins.
    """
    best = torch.full(size, -torch.inf, device=masks.device)
    winner = torch.zeros(size, dtype=torch.int64, device=masks.device)
    inside = torch.zeros(size, dtype=torch.bool, device=masks.device)
    areas = []
    for start, full in full_size_chunks(masks, size, upsample):
        areas.append((full >= threshold).flatten(1).sum(dim=1))
        weighted = full if scores is None else full * scores[start : start + len(full), None, None]
        value, first = weighted.max(dim=0)
        reached = full.gather(0, first.unsqueeze(0))[0] >= threshold
        # Strictly better: of equals the first wins, whatever the chunks.
        better = value > best
        best = torch.where(better, value, best)
        winner = torch.where(better, first.add_(start), winner)
        inside = torch.where(better, reached, inside)
    return Competition(winner, inside, torch.cat(areas), best)


def full_size_chunks(
    masks: Tensor, size: tuple[int, int], upsample: Callable[[Tensor], Tensor] | None = None
) -> Iterator[tuple[int, Tensor]]:
    """Pairs of the first mask's number and some masks ``[k, H, W]`` float32, in order.

    Args:
        masks, size, upsample: see :func:`compete`.
    """
    at_once = max(1, _VALUES_AT_ONCE // max(size[0] * size[1], 1))
    for start in range(0, len(masks), at_once):
        chunk = masks[start : start + at_once]
        yield start, (bilinear(chunk, size) if upsample is None else upsample(chunk)).float()


def bilinear(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """``[k, h, w]`` to ``[k, H, W]``."""
    if masks.shape[1:] == tuple(size):
        return masks
    return F.interpolate(masks[None], size=size, mode="bilinear", align_corners=False)[0]
