"""Gradient clipping and gradient norms."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from slotseg.errors import ConfigError

Clipper = Callable[[list[nn.Parameter]], Tensor]

# The model's parts that make slots; a reader wants one number for them.
_ROOMS = {"tokens": "slots", "initializer": "slots", "grouping": "slots"}


def build_gradient_clipper(cfg: CfgNode) -> Clipper:
    """A function that clips gradients in place and returns their norm from before.

    ``SOLVER.CLIP_GRADIENTS.CLIP_TYPE``: ``full_model`` scales all gradients together so that
    their norm (``NORM_TYPE``) is at most ``CLIP_VALUE``; ``norm`` does that for each parameter by
    itself, ``value`` clamps every entry to ±``CLIP_VALUE``, both as Detectron2. The norm that is
    returned is the L2 norm over all parameters (``NORM_TYPE`` with ``full_model``), a scalar
    tensor on the parameters' device: nothing waits for it.

    Raises:
        ConfigError: an unknown type or a limit that is not positive.
    """
    clip = cfg.SOLVER.CLIP_GRADIENTS
    if not clip.ENABLED:
        return gradient_norm
    limit, norm_type = float(clip.CLIP_VALUE), float(clip.NORM_TYPE)
    if not limit > 0:
        raise ConfigError(f"SOLVER.CLIP_GRADIENTS.CLIP_VALUE: must be positive, got {limit}")

    def clip_full_model(parameters: list[nn.Parameter]) -> Tensor:
        return nn.utils.clip_grad_norm_(parameters, limit, norm_type)

    def clip_each_norm(parameters: list[nn.Parameter]) -> Tensor:
        norm = gradient_norm(parameters)
        for parameter in parameters:
            nn.utils.clip_grad_norm_(parameter, limit, norm_type)
        return norm

    def clip_values(parameters: list[nn.Parameter]) -> Tensor:
        norm = gradient_norm(parameters)
        nn.utils.clip_grad_value_(parameters, limit)
        return norm

    kinds = {"full_model": clip_full_model, "norm": clip_each_norm, "value": clip_values}
    if clip.CLIP_TYPE not in kinds:
        raise ConfigError(
            f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE: unknown type {clip.CLIP_TYPE!r}; "
            f"choose {', '.join(kinds)}"
        )
    return kinds[clip.CLIP_TYPE]


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """L2 norm of all gradients together, a scalar tensor; 0 without gradients."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))


def room_gradient_norms(model: nn.Module) -> dict[str, Tensor]:
    """L2 norm of the gradients of each room: ``backbone``, ``slots``, ``decoders``.

    Rooms are the model's direct children; those that make slots count as one, those without
    trainable parameters are left out. A model of another layout gets its own children's names.
    """
    rooms: dict[str, list[nn.Parameter]] = {}
    for name, child in model.named_children():
        trainable = [p for p in child.parameters() if p.requires_grad]
        if trainable:
            rooms.setdefault(_ROOMS.get(name, name), []).extend(trainable)
    return {room: gradient_norm(parameters) for room, parameters in rooms.items()}
