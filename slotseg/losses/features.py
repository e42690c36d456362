"""Learning without labels: explain the features of a frozen backbone."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from slotseg.losses.base import WeightedLoss
from slotseg.losses.step import TrainingStep


class FeatureLoss(WeightedLoss):
    """Mean squared error of every decoder's features (Seitzer et al. 2023, equation 1).

    Args:
        weight: factor of the loss.
    """

    node = "FEATURES"

    def forward(self, step: TrainingStep) -> dict[str, Tensor]:
        """``{"loss_features": scalar}``."""
        made = [decoded.features for decoded in step.decoded if decoded.features is not None]
        return self.weighted(sum(F.mse_loss(x.prediction, x.target) for x in made))
