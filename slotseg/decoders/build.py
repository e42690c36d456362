"""Registry of decoders."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry
from torch import nn

from slotseg.errors import ConfigError
from slotseg.slots.build import look_up

DECODER_REGISTRY = Registry("DECODER")
DECODER_REGISTRY.__doc__ = """
Modules that turn slots into masks, features or images:
``forward(slots: SlotState, features: dict[str, Tensor], images: Tensor) -> Decoded``, built as
``Class(cfg, backbone_shape: dict[str, ShapeSpec])``. Class attributes ``makes_masks``,
``makes_reconstruction``, ``makes_features`` and ``makes_noise`` (the latter two False where they
are missing) say what comes out in training.
"""


def build_decoders(cfg: CfgNode, backbone_shape: dict[str, ShapeSpec]) -> nn.ModuleList:
    """Build ``MODEL.DECODERS`` in order; the first has to make masks.

    Raises:
        ConfigError: none, an unknown one, or masks of another kind than the first one makes.
    """
    names = cfg.MODEL.DECODERS
    if not names:
        raise ConfigError("MODEL.DECODERS is empty; name at least one decoder")
    classes = [look_up(DECODER_REGISTRY, name, "MODEL.DECODERS") for name in names]
    if not classes[0].makes_masks:
        raise ConfigError(
            f"MODEL.DECODERS: {names[0]} makes no masks; put one that does in first place"
        )
    _check_activation(cfg, classes[0])
    return nn.ModuleList(cls(cfg, backbone_shape) for cls in classes)


def _check_activation(cfg: CfgNode, first: type[nn.Module]) -> None:
    """Masks under which slots are mixed to an image or to features have to share out pixels."""
    activation = cfg.MODEL.MASK_ACTIVATION
    if activation not in ("softmax", "sigmoid"):
        raise ConfigError(f"MODEL.MASK_ACTIVATION: {activation!r} is unknown; softmax or sigmoid")
    mixes = first.makes_reconstruction or getattr(first, "makes_features", False)
    if activation == "sigmoid" and mixes:
        raise ConfigError(
            f"MODEL.MASK_ACTIVATION is 'sigmoid', but {cfg.MODEL.DECODERS[0]} mixes slots by masks "
            "that share out every pixel; choose 'softmax', or put MaskProductDecoder first"
        )
