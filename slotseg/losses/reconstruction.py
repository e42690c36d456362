"""Learning without labels: draw the image again."""

from __future__ import annotations

import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from slotseg.losses.step import TrainingStep


class ReconstructionLoss(nn.Module):
    """Mean squared error between the normalised image and every reconstruction of it.

    A decoder that works at another resolution is compared with the area-averaged image.

    Args:
        weight: factor of the loss.
    """

    @configurable
    def __init__(self, *, weight: float) -> None:
        super().__init__()
        self.weight = weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``LOSSES.RECONSTRUCTION``."""
        return {"weight": cfg.LOSSES.RECONSTRUCTION.WEIGHT}

    def forward(self, step: TrainingStep) -> dict[str, Tensor]:
        """``{"loss_reconstruction": scalar}``."""
        reconstructions = [
            decoded.reconstruction for decoded in step.decoded if decoded.reconstruction is not None
        ]
        errors = [
            F.mse_loss(made, F.interpolate(step.images.float(), made.shape[-2:], mode="area"))
            for made in reconstructions
        ]
        return {"loss_reconstruction": self.weight * sum(errors)}
