"""Slots of an image shall differ."""

from __future__ import annotations

from torch import Tensor

from slotseg.losses.base import WeightedLoss
from slotseg.losses.step import TrainingStep
from slotseg.ops.similarity import mean_pairwise_cosine


class DiversityLoss(WeightedLoss):
    """Mean absolute off-diagonal cosine similarity between the slots of an image.

    Args:
        weight: factor of the loss.
    """

    node = "DIVERSITY"

    def forward(self, step: TrainingStep) -> dict[str, Tensor]:
        """``{"loss_diversity": scalar}``, between 0 and the weight."""
        return self.weighted(mean_pairwise_cosine(step.slots.slots).mean())
