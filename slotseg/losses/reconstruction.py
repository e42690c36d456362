"""Learning without labels: draw the image again."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from slotseg.losses.base import WeightedLoss
from slotseg.losses.step import TrainingStep


class ReconstructionLoss(WeightedLoss):
    """Mean squared error between the normalised image and every reconstruction of it.

    A decoder that works at another resolution is compared with the area-averaged image.

    Args:
        weight: factor of the loss.
    """

    node = "RECONSTRUCTION"

    def forward(self, step: TrainingStep) -> dict[str, Tensor]:
        """``{"loss_reconstruction": scalar}``."""
        reconstructions = [
            decoded.reconstruction for decoded in step.decoded if decoded.reconstruction is not None
        ]
        errors = [
            F.mse_loss(made, F.interpolate(step.images.float(), made.shape[-2:], mode="area"))
            for made in reconstructions
        ]
        return self.weighted(sum(errors))
