"""Weights of other libraries as checkpoints that ``MODEL.WEIGHTS`` takes."""

from __future__ import annotations

from slotseg.backbone.resnet_weights import to_detectron2_names
from slotseg.engine.checkpoint_files import save_file
from slotseg.errors import CheckpointError
from slotseg.weight_files import load_file


def convert_resnet(source: str, target: str) -> int:
    """Write a ResNet of torchvision or timm as a checkpoint for any model with that backbone.

    Loading it looks for each weight at the end of the model's names, so that it fits a ResNet
    alone as well as one inside a feature pyramid.

    Args:
        source: ``.pth`` or ``.safetensors`` of a bare state dict; it is read without executing
            code.
        target: ``.pth`` to write.

    Returns:
        How many tensors were written.

    Raises:
        CheckpointError: ``source`` cannot be read or is no ResNet; ``target`` cannot be written.
    """
    found = load_file(source)["model"]
    try:
        weights = to_detectron2_names(found)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    if not weights:
        raise CheckpointError(f"{source}: holds no weights of a ResNet")
    save_file({"model": weights, "matching_heuristics": True}, target)
    return len(weights)
