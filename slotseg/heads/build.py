"""Registry of heads."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.utils.registry import Registry
from torch import nn

from slotseg.slots.build import look_up

HEAD_REGISTRY = Registry("HEAD")
HEAD_REGISTRY.__doc__ = """
Modules that give slots a meaning: ``forward(slots: SlotState) -> class logits [B, K, C + 1]`` and
``infer(class_logits, masks, size) -> dict``, what an image's output holds besides its slots, built
as ``Class(cfg)``.
"""


def build_head(cfg: CfgNode) -> nn.Module | None:
    """``MODEL.HEAD.NAME``; None when it is empty: segments without classes."""
    name = cfg.MODEL.HEAD.NAME
    if not name:
        return None
    return look_up(HEAD_REGISTRY, name, "MODEL.HEAD.NAME")(cfg)
