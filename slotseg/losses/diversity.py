"""Slots of an image shall differ."""

from __future__ import annotations

from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from slotseg.losses.step import TrainingStep
from slotseg.ops.similarity import mean_pairwise_cosine


class DiversityLoss(nn.Module):
    """Mean absolute off-diagonal cosine similarity between the slots of an image.

    Args:
        weight: factor of the loss.
    """

    @configurable
    def __init__(self, *, weight: float) -> None:
        super().__init__()
        self.weight = weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``LOSSES.DIVERSITY``."""
        return {"weight": cfg.LOSSES.DIVERSITY.WEIGHT}

    def forward(self, step: TrainingStep) -> dict[str, Tensor]:
        """``{"loss_diversity": scalar}``, between 0 and the weight."""
        return {"loss_diversity": self.weight * mean_pairwise_cosine(step.slots.slots).mean()}
