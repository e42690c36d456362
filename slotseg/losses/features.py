"""Learning without labels: explain the features of a frozen backbone."""

from __future__ import annotations

import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from slotseg.losses.step import TrainingStep


class FeatureLoss(nn.Module):
    """Mean squared error of every decoder's features (Seitzer et al. 2023, equation 1).

    Args:
        weight: factor of the loss.
    """

    @configurable
    def __init__(self, *, weight: float) -> None:
        super().__init__()
        self.weight = weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``LOSSES.FEATURES``."""
        return {"weight": cfg.LOSSES.FEATURES.WEIGHT}

    def forward(self, step: TrainingStep) -> dict[str, Tensor]:
        """``{"loss_features": scalar}``."""
        made = [decoded.features for decoded in step.decoded if decoded.features is not None]
        return {
            "loss_features": self.weight * sum(F.mse_loss(x.prediction, x.target) for x in made)
        }
