"""Vision transformers by timm's name, with or without trained weights."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from torch import nn

from slotseg.backbone.vit_weights import load_vit_weights
from slotseg.errors import CheckpointError, ConfigError

# In place of a file: the weights that timm knows for a name.
HUB = "hub"
_NAME = "MODEL.VIT.NAME"
_WEIGHTS = "MODEL.VIT.WEIGHTS"
# What the class is built on; timm has networks of other kinds under "vit" too.
_NEEDED = ("patch_embed", "blocks", "norm", "num_prefix_tokens", "forward_features")


def create_vit(
    name: str, arguments: Mapping[str, Any], weights: str, *, trust_pickle: bool = False
) -> nn.Module:
    """One of timm's vision transformers without a classifier, for images of any size.

    Args:
        name: ``timm.create_model``'s, with or without a tag for the weights.
        arguments: further keyword arguments of ``timm.create_model``.
        weights: empty for random ones; ``hub`` for those that timm has for this name; else a file,
            see :func:`slotseg.backbone.vit_weights.load_vit_weights`.
        trust_pickle: accept files that need Python's unpickler.

    Raises:
        ConfigError: no such ViT, or it does not take these arguments.
        CheckpointError: the weights cannot be fetched or read, or are of another ViT.
    """
    import timm

    if not timm.is_model(name):
        raise ConfigError(f"{_NAME}: timm has no model {name!r}{_near(name, timm.list_models())}")
    # Tokens are taken after the final norm and never pooled.
    options = {"dynamic_img_size": True, "num_classes": 0, "global_pool": "", **arguments}
    vit = (_from_hub if weights == HUB else _create)(timm, name, options)
    if any(not hasattr(vit, attribute) for attribute in _NEEDED):
        raise ConfigError(
            f"{_NAME}: {name} is no plain vision transformer but a {type(vit).__name__}; choose a "
            "vit_... such as vit_small_patch14_dinov2"
        )
    if weights and weights != HUB:
        load_vit_weights(vit, weights, trust_pickle=trust_pickle)
    return vit


def _create(timm: Any, name: str, options: dict[str, Any], **more: Any) -> nn.Module:
    try:
        return timm.create_model(name, **options, **more)
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(
            f"MODEL.VIT: timm cannot build {name} with ARGS ({_one_line(error)}); give what this "
            "model takes"
        ) from error


def _from_hub(timm: Any, name: str, options: dict[str, Any]) -> nn.Module:
    try:
        return _create(timm, name, options, pretrained=True)
    except ConfigError:
        raise
    except Exception as error:  # whatever the hub, the network or the cache throw
        raise CheckpointError(
            f"{_WEIGHTS}: the weights of {name} cannot be had from the hub ({_one_line(error)}); "
            "download its model.safetensors elsewhere and set MODEL.VIT.WEIGHTS to the file, or to "
            '"" if MODEL.WEIGHTS is a trained model, which holds them too'
        ) from error


def _near(name: str, known: list[str]) -> str:
    architecture = name.split(".")[0]
    near = difflib.get_close_matches(architecture, known, n=3, cutoff=0.6)
    return f"; did you mean {', '.join(near)}?" if near else "; timm.list_models() lists all"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
