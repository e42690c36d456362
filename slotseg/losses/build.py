"""From the config to the losses that are switched on."""

from __future__ import annotations

import logging

from detectron2.config import CfgNode
from torch import nn

from slotseg.errors import ConfigError
from slotseg.losses.diffusion import DiffusionLoss
from slotseg.losses.diversity import DiversityLoss
from slotseg.losses.features import FeatureLoss
from slotseg.losses.masks import MaskLoss
from slotseg.losses.reconstruction import ReconstructionLoss

_logger = logging.getLogger(__name__)

# Losses on what a decoder makes: node of LOSSES, class, the attribute by which a decoder says that
# it makes it, and decoders that do, for messages.
_OF_DECODERS = (
    ("RECONSTRUCTION", ReconstructionLoss, "makes_reconstruction", "SpatialBroadcastDecoder"),
    ("FEATURES", FeatureLoss, "makes_features", "FeatureMLPDecoder"),
    ("DIFFUSION", DiffusionLoss, "makes_noise", "LatentDiffusionDecoder"),
)


def build_losses(cfg: CfgNode, decoders: nn.ModuleList) -> nn.ModuleDict:
    """Every loss of ``cfg.LOSSES`` with a weight above 0, by the name it is logged under.

    Each is called with a :class:`~slotseg.losses.step.TrainingStep` and returns a dict of
    weighted scalars.

    Masks of the first decoder that no loss trains are warned of: they are predicted all the same.

    Raises:
        ConfigError: a loss that no decoder serves, a decoder that no loss trains, or no loss.
    """
    losses = nn.ModuleDict()
    for node, loss, attribute, example in _OF_DECODERS:
        if cfg.LOSSES[node].WEIGHT > 0:
            if not any(getattr(decoder, attribute, False) for decoder in decoders):
                raise ConfigError(
                    f"LOSSES.{node}.WEIGHT is above 0, but none of MODEL.DECODERS "
                    f"({', '.join(cfg.MODEL.DECODERS)}) makes what it is about; add {example} or "
                    "set the weight to 0"
                )
            losses[node.lower()] = loss(cfg)
    if cfg.LOSSES.MASKS.WEIGHT > 0:
        losses["masks"] = MaskLoss(cfg)
    if not losses:
        weights = [f"LOSSES.{node}.WEIGHT" for node, *_ in _OF_DECODERS]
        raise ConfigError(
            f"nothing to learn from: {', '.join(weights)} and LOSSES.MASKS.WEIGHT are all 0; set "
            "one above 0"
        )
    _require_training(cfg, decoders)
    if cfg.LOSSES.DIVERSITY.WEIGHT > 0:
        losses["diversity"] = DiversityLoss(cfg)
    return losses


def _require_training(cfg: CfgNode, decoders: nn.ModuleList) -> None:
    """Refuse a further decoder that would only cost time; the first one's masks are wanted."""
    for number, (name, decoder) in enumerate(zip(cfg.MODEL.DECODERS, decoders, strict=True)):
        own = [node for node, _, attribute, _ in _OF_DECODERS if getattr(decoder, attribute, False)]
        if any(cfg.LOSSES[node].WEIGHT > 0 for node in own):
            continue
        if number == 0 and cfg.LOSSES.MASKS.WEIGHT <= 0:
            _logger.warning(
                "MODEL.DECODERS: no loss trains the masks of %s, which are those that are "
                'predicted; score the slots\' attention by TEST.MASK_SOURCE "attention", or set '
                "LOSSES.MASKS.WEIGHT above 0",
                name,
            )
        elif number > 0 and own:
            raise ConfigError(
                f"MODEL.DECODERS: no loss trains {name}; set LOSSES.{own[0]}.WEIGHT above 0 or "
                "leave it out"
            )
