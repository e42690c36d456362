"""Weights of vision transformers from files: timm's, DINOv2's own, and SlotSeg's checkpoints."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO

from torch import Tensor, nn

from slotseg.errors import CheckpointError
from slotseg.weight_files import load_file

# Under what name a state dict has the ViT's first layer, whatever it lies in.
_FIRST = "patch_embed.proj.weight"
# Parts for other tasks than features, which stay behind.
_LEFT_BEHIND = ("head.", "head_dist.", "fc_norm.", "attn_pool.", "mask_token", "rope.")
# Names that only the original projects have; timm calls the last two reg_token.
_ORIGINAL_ONLY = {"mask_token", "register_tokens", "storage_tokens"}
# What a low-rank update makes of "<layer>.weight" (slotseg/backbone/low_rank.py).
_ORIGINAL = ".parametrizations.weight.original"
_UP = ".parametrizations.weight.0.up"
_DOWN = ".parametrizations.weight.0.down"


def load_vit_weights(vit: nn.Module, path: str, *, trust_pickle: bool = False) -> None:
    """Load all weights of ``vit`` from a file.

    Takes timm's ``model.safetensors``, the original ``.pth`` of DINOv2 and DINOv3, and any
    checkpoint of SlotSeg whose model holds a ViT, such as a masked autoencoder's or a whole
    ``SlotSeg``'s (low-rank updates are added to their matrices). Where those of timm and of the
    original projects have position embeddings for another image size, these are resampled; a
    checkpoint of SlotSeg may be of any shape of images, so that ``ARGS`` has to repeat its own.

    Args:
        vit: one of timm's vision transformers, changed in place.
        path: a file; read without executing code.
        trust_pickle: accept files that need Python's unpickler.

    Raises:
        CheckpointError: no such file, a damaged one, one without a ViT, or one of another ViT.
    """
    try:
        data = load_file(path, trust_pickle=trust_pickle)
    except CheckpointError as error:
        raise CheckpointError(
            f'MODEL.VIT.WEIGHTS: {error}; give a file of weights, or "" if MODEL.WEIGHTS is a '
            "trained model, which holds them too"
        ) from error
    state = data["model"]
    prefix = _prefix(state, path)
    weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    # SlotSeg keeps timm's names, behind those of the rooms that the ViT lies in.
    if not prefix or weights.keys() & _ORIGINAL_ONLY:
        weights = _in_timm_names(vit, weights, path)
    weights = _merge_low_rank(weights)
    _check(vit.state_dict(), weights, path)
    vit.load_state_dict(weights, strict=False)


def _prefix(state: Mapping[str, Tensor], path: str) -> str:
    """What comes before the names of the only ViT in a state dict."""
    prefixes = sorted(key.removesuffix(_FIRST) for key in state if key.endswith(_FIRST))
    if len(prefixes) != 1:
        found = f"{len(prefixes)} ({', '.join(prefixes)})" if prefixes else "none"
        raise CheckpointError(
            f"{path}: should hold one vision transformer but has {found}; give timm's "
            "model.safetensors, DINOv2's .pth or a checkpoint of SlotSeg with a ViT"
        )
    return prefixes[0]


def _merge_low_rank(state: dict[str, Tensor]) -> dict[str, Tensor]:
    merged = {k: v for k, v in state.items() if ".parametrizations." not in k}
    for key, weight in state.items():
        if key.endswith(_ORIGINAL):
            layer = key.removesuffix(_ORIGINAL)
            merged[f"{layer}.weight"] = weight + state[layer + _UP] @ state[layer + _DOWN]
    return merged


def _in_timm_names(vit: nn.Module, state: dict[str, Tensor], path: str) -> dict[str, Tensor]:
    """timm's own conversion, which each of its model families has."""
    convert = getattr(sys.modules[type(vit).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        # It prints what it skips.
        with redirect_stdout(StringIO()):
            return convert(state, vit)
    except (RuntimeError, ValueError, KeyError, AssertionError) as error:
        raise CheckpointError(
            f"{path}: is not of the ViT that MODEL.VIT.NAME and ARGS describe "
            f"({' '.join(str(error).split())[:200]})"
        ) from error


def _check(own: Mapping[str, Tensor], weights: dict[str, Tensor], path: str) -> None:
    """Drop what is for other tasks; everything else must fit."""
    for key in [k for k in weights if k not in own and k.startswith(_LEFT_BEHIND)]:
        del weights[key]
    if (theirs := _size(weights)) != (ours := _size(own)):
        raise CheckpointError(
            f"{path}: is a ViT with {theirs}, but MODEL.VIT.NAME and ARGS describe one with {ours}"
        )
    wrong = {
        k: f"{k} {list(weights[k].shape)} instead of {list(own[k].shape)}"
        for k in own
        if k in weights and weights[k].shape != own[k].shape
    }
    missing = [k for k in own if k not in weights]
    unknown = [k for k in weights if k not in own]
    if not missing and not unknown and list(wrong) == ["pos_embed"]:
        raise CheckpointError(
            f"{path}: was trained on images of another size: {wrong['pos_embed']}; set "
            "MODEL.VIT.ARGS.img_size to that size, the model takes others all the same"
        )
    faults = {"has": [*wrong.values()], "lacks": missing, "has in addition": unknown}
    for what, names in faults.items():
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise CheckpointError(
                f"{path}: is not of the ViT that MODEL.VIT.NAME and ARGS describe: it {what} "
                f"{', '.join(names[:3])}{more}"
            )


def _size(state: Mapping[str, Tensor]) -> str:
    depth = len({k.split(".")[1] for k in state if k.startswith("blocks.")})
    width = state[_FIRST].shape[0] if _FIRST in state else 0
    return f"{depth} blocks of width {width}"
