"""ImageNet weights of torchvision's and timm's ResNets under Detectron2's names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from slotseg.errors import CheckpointError

# Both libraries: conv1, bn1, layer<n>.<block>.{conv,bn}<i>, layer<n>.<block>.downsample.{0,1}, fc.
_STEM = re.compile(r"^(conv|bn)1\.(\w+)$")
_BLOCK = re.compile(r"^layer(\d)\.(\d+)\.(conv|bn)(\d)\.(\w+)$")
_SHORTCUT = re.compile(r"^layer(\d)\.(\d+)\.downsample\.([01])\.(\w+)$")


def to_detectron2_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The convolutions and norms of a ResNet, named as in Detectron2's ``ResNet``.

    The classifier and the counters of batches are left out. The values stay as they are; the
    models that they belong to take RGB, subtract (123.675, 116.28, 103.53), divide by
    (58.395, 57.12, 57.375) and have ``MODEL.RESNETS.STRIDE_IN_1X1`` False.

    Raises:
        CheckpointError: this is not a plain ResNet: a key has no counterpart.
    """
    renamed = {}
    for key, value in weights.items():
        if key.startswith("fc.") or key.endswith(".num_batches_tracked"):
            continue
        name = _detectron2_name(key)
        if name is None:
            raise CheckpointError(
                f"the key {key} has no counterpart in Detectron2's ResNet; give the weights of a "
                "plain ResNet of torchvision or timm, such as resnet50"
            )
        renamed[name] = value
    return renamed


def _detectron2_name(key: str) -> str | None:
    if found := _STEM.match(key):
        kind, parameter = found.groups()
        return f"stem.conv1.{_inner(kind)}{parameter}"
    if found := _BLOCK.match(key):
        layer, block, kind, number, parameter = found.groups()
        return f"res{int(layer) + 1}.{block}.conv{number}.{_inner(kind)}{parameter}"
    if found := _SHORTCUT.match(key):
        layer, block, position, parameter = found.groups()
        inner = _inner("conv" if position == "0" else "bn")
        return f"res{int(layer) + 1}.{block}.shortcut.{inner}{parameter}"
    return None


def _inner(kind: str) -> str:
    """Detectron2 keeps a convolution's norm inside of it."""
    return "norm." if kind == "bn" else ""
