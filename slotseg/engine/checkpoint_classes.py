"""Checkpoints of models with other classes.

A module that classifies names its last layer in ``class_layer``, one output a class and one for "no
object"; one that knows no "no object" says so by ``knows_no_object = False``. ``reinit_classes``
says whether a checkpoint that a training starts from leaves that layer alone
(``MODEL.HEAD.REINIT_CLASSES``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from slotseg.errors import CheckpointError

_logger = logging.getLogger(__name__)


def leave_class_layers(
    model: nn.Module, weights: Mapping[str, Tensor], path: str
) -> dict[str, Tensor]:
    """``weights`` without the class layers that are to start anew, which is logged.

    Args:
        model: with its own classes.
        weights: of a checkpoint, by the model's names.
        path: of the checkpoint, for messages.
    """
    kept = dict(weights)
    for module, layer, own in _class_layers(model):
        if not module.reinit_classes or f"{layer}.weight" not in kept:
            continue
        _logger.info(
            f"{path}: its class layer {layer} for {_classes(module, kept[f'{layer}.weight'])} "
            f"classes is left alone; a new one for {_classes(module, own)} classes is trained "
            "(MODEL.HEAD.REINIT_CLASSES)"
        )
        kept = {key: value for key, value in kept.items() if not key.startswith(f"{layer}.")}
    return kept


def check_class_counts(model: nn.Module, weights: Mapping[str, Tensor], path: str) -> None:
    """Refuse a checkpoint whose number of classes is not the model's.

    Raises:
        CheckpointError: naming the file and both numbers.
    """
    for module, layer, own in _class_layers(model):
        found = weights.get(f"{layer}.weight")
        if found is not None and found.ndim == own.ndim and len(found) != len(own):
            raise CheckpointError(
                f"{path}: was trained on {_classes(module, found)} classes, but the model has "
                f"{_classes(module, own)}, those of the first set of DATASETS.TRAIN; name the set "
                "that it was trained on, or train a new class layer with "
                "MODEL.HEAD.REINIT_CLASSES True"
            )


def _class_layers(model: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """Modules that classify, the full name of their class layer, and its weight."""
    for name, module in model.named_modules():
        if hasattr(module, "class_layer"):
            layer = f"{name}.{module.class_layer}" if name else module.class_layer
            yield module, layer, model.get_parameter(f"{layer}.weight")


def _classes(module: nn.Module, weight: Tensor) -> int:
    # The last output is "no object".
    return len(weight) - int(getattr(module, "knows_no_object", True))
