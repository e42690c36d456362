"""The attention keys of a vision transformer's last block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch.nn.functional as F
from torch import Tensor, nn

from slotseg.errors import ConfigError


def key_channels(vit: nn.Module) -> int:
    """Channels of :func:`attention_keys`: heads times the width of a head.

    Raises:
        ConfigError: the last block's attention has no keys of its own.
    """
    attention = _last_attention(vit)
    if getattr(attention, "k_proj", None) is not None:
        return attention.k_proj.out_features
    return attention.qkv.out_features // 3


@contextmanager
def attention_keys(vit: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the keys of the last block while the ViT runs inside of the context.

    Keys describe what is in a patch best (Amir et al. 2022, "Deep ViT Features as Dense Visual
    Descriptors"). Rotary position is left out, since it would make patches alike that merely lie
    near each other; the norm that some models put on keys is applied.

    Yields:
        A list that holds ``[B, N, C]`` after the run, class and register tokens first.
    """
    found: list[Tensor] = []
    handle = _last_attention(vit).register_forward_pre_hook(
        lambda attention, inputs: found.append(_keys(attention, inputs[0]))
    )
    try:
        yield found
    finally:
        handle.remove()


def _keys(attention: nn.Module, x: Tensor) -> Tensor:
    """``[B, N, D]``, what enters the attention, to its keys ``[B, N, C]``."""
    if getattr(attention, "k_proj", None) is not None:
        keys = attention.k_proj(x)
    else:
        # One matrix gives queries, keys and values in this order.
        bias = getattr(attention, "k_bias", None)
        if attention.qkv.bias is not None:
            bias = attention.qkv.bias.chunk(3)[1]
        keys = F.linear(x, attention.qkv.weight.chunk(3)[1], bias)
    by_head = keys.unflatten(-1, (-1, attention.head_dim))
    return attention.k_norm(by_head).flatten(-2)


def _last_attention(vit: nn.Module) -> nn.Module:
    attention = getattr(vit.blocks[-1], "attn", None)
    if getattr(attention, "qkv", None) is None and getattr(attention, "k_proj", None) is None:
        raise ConfigError(
            f"MODEL.VIT.KEYS: the blocks of this {type(vit).__name__} have no attention keys to "
            "give; set it to False or choose another MODEL.VIT.NAME"
        )
    return attention
