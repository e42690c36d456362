"""Vision transformers by timm's name, with or without trained weights."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Mapping
from typing import Any

from torch import nn

from slotseg.backbone.vit_weights import load_vit_weights
from slotseg.errors import CheckpointError, ConfigError

# In place of a file: the weights that timm knows for a name.
HUB = "hub"
_NAME = "MODEL.VIT.NAME"
_WEIGHTS = "MODEL.VIT.WEIGHTS"
# What VisionTransformerBackbone is built on; not all that timm calls "vit" has it.
_NEEDED = ("blocks", "norm", "num_prefix_tokens", "forward_features")


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
    from timm.layers import PatchEmbed

    _check_name(timm, name)
    # Tokens are taken after the final norm and never pooled.
    options = {"dynamic_img_size": True, "num_classes": 0, "global_pool": "", **arguments}
    vit = (_from_hub if weights == HUB else _create)(timm, name, options)
    plain = isinstance(getattr(vit, "patch_embed", None), PatchEmbed)
    if not plain or any(not hasattr(vit, attribute) for attribute in _NEEDED):
        raise ConfigError(
            f"{_NAME}: {name} ({type(vit).__name__}) is no vision transformer on plain patches; "
            "choose one such as vit_small_patch14_dinov2"
        )
    if weights and weights != HUB:
        load_vit_weights(vit, weights, trust_pickle=trust_pickle)
    return vit


def _check_name(timm: Any, name: str) -> None:
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        _refuse_name(architecture, timm.list_models())
    if tag and name not in (known := timm.list_pretrained(f"{architecture}.*")):
        _refuse_name(name, known)


def _refuse_name(name: str, known: list[str]) -> None:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() lists all"
    raise ConfigError(f"{_NAME}: timm has no model {name!r}; {hint}")


def _create(timm: Any, name: str, options: dict[str, Any]) -> nn.Module:
    try:
        return timm.create_model(name, **options)
    except Exception as error:  # whatever the wrong arguments lead to inside of it
        raise ConfigError(
            f"MODEL.VIT: timm cannot build {name} with ARGS ({_one_line(error)}); give what this "
            "model takes"
        ) from error


def _from_hub(timm: Any, name: str, options: dict[str, Any]) -> nn.Module:
    try:
        return timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # whatever the hub, the network or the cache throw
        _create(timm, name, options)  # tells apart what is wrong with the arguments
        raise CheckpointError(
            f"{_WEIGHTS}: the weights of {name} cannot be had from the hub ({_one_line(error)}); "
            "download its model.safetensors elsewhere and set MODEL.VIT.WEIGHTS to the file, or to "
            '"" if MODEL.WEIGHTS is a trained model, which holds them too'
        ) from error


def _one_line(error: BaseException) -> str:
    return textwrap.shorten(str(error), 160, placeholder="...") or type(error).__name__
