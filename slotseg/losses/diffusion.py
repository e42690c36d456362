"""Learning without labels: find the noise in the latents of the image."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from slotseg.losses.base import WeightedLoss
from slotseg.losses.step import TrainingStep


class DiffusionLoss(WeightedLoss):
    """Mean squared error of the predicted noise (Ho et al. 2020, equation 14).

    Args:
        weight: factor of the loss.
    """

    node = "DIFFUSION"

    def forward(self, step: TrainingStep) -> dict[str, Tensor]:
        """``{"loss_diffusion": scalar}``."""
        made = [decoded.noise for decoded in step.decoded if decoded.noise is not None]
        return self.weighted(sum(F.mse_loss(x.prediction, x.target) for x in made))
