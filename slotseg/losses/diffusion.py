"""Learning without labels: find the noise in the latents of the image."""

from __future__ import annotations

import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from slotseg.losses.step import TrainingStep


class DiffusionLoss(nn.Module):
    """Mean squared error of the predicted noise (Ho et al. 2020, equation 14).

    Args:
        weight: factor of the loss.
    """

    @configurable
    def __init__(self, *, weight: float) -> None:
        super().__init__()
        self.weight = weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``LOSSES.DIFFUSION``."""
        return {"weight": cfg.LOSSES.DIFFUSION.WEIGHT}

    def forward(self, step: TrainingStep) -> dict[str, Tensor]:
        """``{"loss_diffusion": scalar}``."""
        made = [decoded.noise for decoded in step.decoded if decoded.noise is not None]
        error = sum(F.mse_loss(x.prediction, x.target) for x in made)
        return {"loss_diffusion": self.weight * error}
