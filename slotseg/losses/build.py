"""From the config to the losses that are switched on."""

from __future__ import annotations

import logging

from detectron2.config import CfgNode
from torch import nn

from slotseg.errors import ConfigError
from slotseg.losses.class_map import ClassMapLoss
from slotseg.losses.consistency import ScaleConsistencyLoss
from slotseg.losses.contrastive import ContrastiveSlotLoss
from slotseg.losses.diffusion import DiffusionLoss
from slotseg.losses.diversity import DiversityLoss
from slotseg.losses.features import FeatureLoss
from slotseg.losses.masks import MaskLoss
from slotseg.losses.objectness import ObjectnessLoss
from slotseg.losses.reconstruction import ReconstructionLoss
from slotseg.losses.uncertainty import UncertaintyLoss

_logger = logging.getLogger(__name__)

# Losses on what a decoder makes: node of LOSSES, class, the attribute by which a decoder says that
# it makes it, and decoders that do, for messages.
_OF_DECODERS = (
    ("RECONSTRUCTION", ReconstructionLoss, "makes_reconstruction", "SpatialBroadcastDecoder"),
    ("FEATURES", FeatureLoss, "makes_features", "FeatureMLPDecoder"),
    ("DIFFUSION", DiffusionLoss, "makes_noise", "LatentDiffusionDecoder"),
)

# Losses on the maps that some initialisers make before there are slots.
_OF_GUESSES = (("OBJECTNESS", ObjectnessLoss), ("CLASS_MAP", ClassMapLoss))

# Losses on the predicted masks that know the truth, and losses that only keep slots in order, which
# slots that say nothing of the image would satisfy too.
_OF_MASKS = (("MASKS", MaskLoss), ("UNCERTAINTY", UncertaintyLoss))
_OF_SLOTS = (
    ("DIVERSITY", DiversityLoss),
    ("CONTRASTIVE", ContrastiveSlotLoss),
    ("CONSISTENCY", ScaleConsistencyLoss),
)


def build_losses(cfg: CfgNode, decoders: nn.ModuleList) -> nn.ModuleDict:
    """Every loss of ``cfg.LOSSES`` with a weight above 0, by the name it is logged under.

    Each is called with a :class:`~slotseg.losses.step.TrainingStep` and returns a dict of
    weighted scalars.

    Masks of the first decoder that no loss trains are warned of: they are predicted all the same.

    Raises:
        ConfigError: a loss that no decoder serves, a decoder that no loss trains, no loss, or one
            that compares views by masks of which only some pixels are decoded.
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
    losses.update(_switched_on(cfg, _OF_MASKS))
    if not losses:
        *others, last = (f"LOSSES.{node}.WEIGHT" for node, *_ in (*_OF_DECODERS, *_OF_MASKS))
        raise ConfigError(
            f"nothing to learn from: {', '.join(others)} and {last} are all 0; set one above 0"
        )
    _require_training(cfg, decoders)
    losses.update(_switched_on(cfg, (*_OF_GUESSES, *_OF_SLOTS)))
    _require_whole_masks(losses, decoders[0])
    return losses


def _require_whole_masks(losses: nn.ModuleDict, first: nn.Module) -> None:
    """Pixels are left out at random, others in every view: what remains cannot be compared."""
    if getattr(first, "train_step", 1) == 1:
        return
    for name, loss in losses.items():
        if getattr(loss, "views", ()):
            raise ConfigError(
                f"LOSSES.{name.upper()} compares the masks of two views of an image pixel by "
                "pixel, but MODEL.MASK_PRODUCT.TRAIN_STEP leaves pixels out; set it to 1, or the "
                "loss's WEIGHT to 0"
            )


def _switched_on(
    cfg: CfgNode, losses: tuple[tuple[str, type[nn.Module]], ...]
) -> dict[str, nn.Module]:
    return {node.lower(): loss(cfg) for node, loss in losses if cfg.LOSSES[node].WEIGHT > 0}


def _require_training(cfg: CfgNode, decoders: nn.ModuleList) -> None:
    """Refuse a further decoder that would only cost time; the first one's masks are wanted."""
    for number, (name, decoder) in enumerate(zip(cfg.MODEL.DECODERS, decoders, strict=True)):
        own = [node for node, _, attribute, _ in _OF_DECODERS if getattr(decoder, attribute, False)]
        if any(cfg.LOSSES[node].WEIGHT > 0 for node in own):
            continue
        if number == 0 and all(cfg.LOSSES[node].WEIGHT <= 0 for node, _ in _OF_MASKS):
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
