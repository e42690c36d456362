"""Tiny vision transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from detectron2.config import CfgNode
from detectron2.modeling import Backbone, build_backbone

from slotseg import get_cfg

TINY = {"embed_dim": 24, "depth": 3, "num_heads": 3, "patch_size": 8, "img_size": 32}


@pytest.fixture(scope="session")
def vit_config() -> Callable[..., CfgNode]:
    """``make(*overrides, name=..., **arguments)``: a config of a ViT 24 wide and 3 deep."""

    def make(*overrides: Any, name: str = "vit_tiny_patch16_224", **arguments: Any) -> CfgNode:
        cfg = get_cfg(
            None,
            ["MODEL.BACKBONE.NAME", "build_dinov2_backbone", "MODEL.DEVICE", "cpu"]
            + ["MODEL.VIT.NAME", name, *overrides],
        )
        cfg.MODEL.VIT.ARGS.update({**TINY, **arguments})
        return cfg

    return make


@pytest.fixture(scope="session")
def tiny_vit(vit_config) -> Callable[..., Backbone]:
    """The backbone of :func:`vit_config`; options of MODEL.VIT without that in front."""

    def make(*options: Any, **arguments: Any) -> Backbone:
        names = [f"MODEL.VIT.{key}" for key in options[::2]]
        overrides = [x for pair in zip(names, options[1::2], strict=True) for x in pair]
        return build_backbone(vit_config(*overrides, **arguments))

    return make
