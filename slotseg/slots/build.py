"""Registries of slot initialisers and groupings."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry
from torch import nn

from slotseg.errors import ConfigError

SLOT_INITIALIZER_REGISTRY = Registry("SLOT_INITIALIZER")
SLOT_INITIALIZER_REGISTRY.__doc__ = """
Modules that start the slots:
``forward(tokens: Tokens, features: Mapping[str, Tensor], images: Tensor) -> InitialSlots``, built
as ``Class(cfg, backbone_shape: dict[str, ShapeSpec])``. ``features`` are the backbone's maps,
``images`` the normalised images ``[B, 3, H, W]``.
"""

SLOT_GROUPING_REGISTRY = Registry("SLOT_GROUPING")
SLOT_GROUPING_REGISTRY.__doc__ = """
Modules that let slots compete for pixels:
``forward(tokens: Tokens, initial: [B, K, D]) -> SlotState``, built as ``Class(cfg)``.
"""


def build_slot_initializer(cfg: CfgNode, backbone_shape: dict[str, ShapeSpec]) -> nn.Module:
    """Build ``MODEL.SLOTS.INITIALIZER.NAME``."""
    return look_up(
        SLOT_INITIALIZER_REGISTRY, cfg.MODEL.SLOTS.INITIALIZER.NAME, "MODEL.SLOTS.INITIALIZER.NAME"
    )(cfg, backbone_shape)


def build_slot_grouping(cfg: CfgNode) -> nn.Module:
    """Build ``MODEL.SLOTS.GROUPING.NAME``."""
    return look_up(
        SLOT_GROUPING_REGISTRY, cfg.MODEL.SLOTS.GROUPING.NAME, "MODEL.SLOTS.GROUPING.NAME"
    )(cfg)


def look_up(registry: Registry, name: str, key: str) -> type[nn.Module]:
    """The class of that name, or a :class:`ConfigError` that lists the ones there are."""
    if name not in registry:
        known = ", ".join(sorted(known_name for known_name, _ in registry))
        raise ConfigError(f"{key}: {name!r} is not registered; choose from {known}")
    return registry.get(name)
