"""From the config to the losses that are switched on."""

from __future__ import annotations

from detectron2.config import CfgNode
from torch import nn

from slotseg.errors import ConfigError
from slotseg.losses.diversity import DiversityLoss
from slotseg.losses.masks import MaskLoss
from slotseg.losses.reconstruction import ReconstructionLoss


def build_losses(cfg: CfgNode, decoders: nn.ModuleList) -> nn.ModuleDict:
    """Every loss of ``cfg.LOSSES`` with a weight above 0, by the name it is logged under.

    Each is called with a :class:`~slotseg.losses.step.TrainingStep` and returns a dict of
    weighted scalars.
    """
    losses = nn.ModuleDict()
    if cfg.LOSSES.RECONSTRUCTION.WEIGHT > 0:
        if not any(decoder.makes_reconstruction for decoder in decoders):
            raise ConfigError(
                "LOSSES.RECONSTRUCTION.WEIGHT is above 0, but none of MODEL.DECODERS "
                f"({', '.join(cfg.MODEL.DECODERS)}) reconstructs; add SpatialBroadcastDecoder or "
                "set the weight to 0"
            )
        losses["reconstruction"] = ReconstructionLoss(cfg)
    if cfg.LOSSES.MASKS.WEIGHT > 0:
        losses["masks"] = MaskLoss(cfg)
    if not losses:
        raise ConfigError(
            "nothing to learn from: LOSSES.RECONSTRUCTION.WEIGHT and LOSSES.MASKS.WEIGHT are both "
            "0; set one above 0"
        )
    if cfg.LOSSES.DIVERSITY.WEIGHT > 0:
        losses["diversity"] = DiversityLoss(cfg)
    return losses
