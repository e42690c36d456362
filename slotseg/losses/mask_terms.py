"""What a mask pays for its segment, from logarithms, so that sure masks stay finite."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Where slots share out every pixel, a share of 1 leaves a logarithm of 0 for all others together;
# this keeps its gradient finite.
_LARGEST_SHARE = 1.0 - 1e-6


@dataclass(frozen=True)
class MaskSamples:
    """Masks and segments of a batch at P pixels or points an image.

    Attributes:
        log_masks: ``[B, K, P]`` float32, logarithm of the masks.
        log_others: ``[B, K, P]`` float32, logarithm of 1 - mask, where each mask is independent of
            the others; None where masks share out every pixel.
        truth: ``[B, S, P]`` float32, shares of the segments; void is 0 everywhere.
    """

    log_masks: Tensor
    log_others: Tensor | None
    truth: Tensor

    @classmethod
    def of(cls, logits: Tensor, truth: Tensor, independent: bool) -> MaskSamples:
        """From mask logits ``[B, K, P]``: a softmax over K, or K sigmoids."""
        if independent:
            return cls(F.logsigmoid(logits), F.logsigmoid(-logits), truth)
        return cls(logits.log_softmax(dim=1), None, truth)

    def pairs(self, slot_of: Tensor, confidence: Tensor | None = None) -> MaskPairs:
        """The matched slots beside their segments; ``slot_of`` is ``[B, S]``, -1 for none, and
        ``confidence`` ``[B, S']``, with S' >= S, what each segment counts.

        Slots are asked at every pixel that is not void, also where nobody was matched to the
        segment there: a slot that grows over a small neighbour that no slot has found is wrong.
        """
        image, segment = (slot_of >= 0).nonzero(as_tuple=True)
        slot = slot_of[image, segment]
        known = self.truth.sum(dim=1)
        log_others = None if self.log_others is None else self.log_others[image, slot]
        return MaskPairs(
            self.log_masks[image, slot],
            log_others,
            self.truth[image, segment],
            known[image],
            None if confidence is None else confidence[image, segment],
        )


@dataclass(frozen=True)
class MaskPairs:
    """M matched slots and their segments at P pixels or points each, all ``[M, P]`` float32.

    Means are over all pairs and pixels, whatever these count: labels that count little make small
    losses, rather than few sure ones large ones.

    Attributes:
        log_masks: logarithm of the slot's mask.
        log_others: logarithm of 1 - mask; None: from ``log_masks``, where that is asked for.
        truth: share of the segment.
        known: share of what has a truth; 1 without void.
        confidence: ``[M]`` float32 in 0..1, what each pair counts; None: all 1.
    """

    log_masks: Tensor
    log_others: Tensor | None
    truth: Tensor
    known: Tensor
    confidence: Tensor | None = None

    def cross_entropy(self) -> Tensor:
        """Mean over pixels of a softmax over slots."""
        entropy = self._count(self.log_masks * self.truth)
        return -entropy.sum() / self.truth.sum().clamp_min(1.0)

    def binary_cross_entropy(self) -> Tensor:
        """Mean over pixels and matched slots."""
        log_others = self.log_others
        if log_others is None:
            log_others = torch.log1p(-self.log_masks.exp().clamp_max(_LARGEST_SHARE))
        entropy = self.truth * self.log_masks + (self.known - self.truth) * log_others
        return -self._count(entropy).sum() / self.known.sum().clamp_min(1.0)

    def dice(self) -> Tensor:
        """``1 - (2 |p t| + 1) / (|p| + |t| + 1)``, mean over matched segments."""
        masks = self.log_masks.exp() * self.known
        overlap = (masks * self.truth).sum(dim=1)
        error = 1.0 - (2.0 * overlap + 1.0) / (masks.sum(dim=1) + self.truth.sum(dim=1) + 1.0)
        return self._count(error).sum() / max(len(error), 1)

    def _count(self, values: Tensor) -> Tensor:
        """Values ``[M, ...]`` as much as their pairs count."""
        if self.confidence is None:
            return values
        return values * self.confidence.view(-1, *[1] * (values.dim() - 1))
