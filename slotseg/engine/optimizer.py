"""Optimisers from the config, with weight decay only where it makes sense."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from torch import nn

from slotseg.errors import ConfigError

_NORMS = (
    nn.modules.batchnorm._NormBase,  # every BatchNorm and InstanceNorm
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW, Adam or SGD over the parameters that require gradients.

    ``SOLVER.BASE_LR``, ``BETAS`` (Adam, AdamW), ``MOMENTUM`` and ``NESTEROV`` (SGD); weight decay
    as :func:`parameter_groups` says. AdamW's decay is decoupled from the gradient (Loshchilov and
    Hutter 2019); Adam's and SGD's is an L2 penalty. Detectron2's ``BIAS_LR_FACTOR`` and
    ``WEIGHT_DECAY_BIAS``, which only reproduce its first version, do not count.

    Raises:
        ConfigError: an unknown optimiser, or a model without trainable parameters.
    """
    solver = cfg.SOLVER
    groups = parameter_groups(
        model, weight_decay=solver.WEIGHT_DECAY, weight_decay_norm=solver.WEIGHT_DECAY_NORM
    )
    if not groups:
        raise ConfigError("the model has no trainable parameter; unfreeze one of its parts")
    if solver.OPTIMIZER == "AdamW":
        return torch.optim.AdamW(groups, lr=solver.BASE_LR, betas=tuple(solver.BETAS), fused=True)
    if solver.OPTIMIZER == "Adam":
        return torch.optim.Adam(groups, lr=solver.BASE_LR, betas=tuple(solver.BETAS), fused=True)
    if solver.OPTIMIZER == "SGD":
        return torch.optim.SGD(
            groups, lr=solver.BASE_LR, momentum=solver.MOMENTUM, nesterov=solver.NESTEROV
        )
    raise ConfigError(
        f"SOLVER.OPTIMIZER: unknown optimiser {solver.OPTIMIZER!r}; choose AdamW, Adam or SGD"
    )


def parameter_groups(
    model: nn.Module, *, weight_decay: float, weight_decay_norm: float = 0.0
) -> list[dict[str, Any]]:
    """Split trainable parameters by how they decay.

    * decayed with ``weight_decay``: matrices and kernels of layers, that is parameters with two or
      more dimensions whose own name contains ``weight``;
    * with ``weight_decay_norm``: parameters of normalisation layers;
    * not at all: the rest, that is biases, embeddings, and free parameters such as slot
      initialisers and position maps, which are values rather than maps between values and which
      a pull to zero would only make alike.

    Returns:
        Groups in a fixed order with a ``name``; empty ones are left out, shared parameters
        counted once.
    """
    groups: dict[str, list[nn.Parameter]] = {"decayed": [], "norms": [], "free": []}
    seen: set[nn.Parameter] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            groups[_kind(module, name, parameter)].append(parameter)
    decays = {"decayed": weight_decay, "norms": weight_decay_norm, "free": 0.0}
    return [
        {"name": kind, "params": parameters, "weight_decay": decays[kind]}
        for kind, parameters in groups.items()
        if parameters
    ]


def _kind(module: nn.Module, name: str, parameter: nn.Parameter) -> str:
    if isinstance(module, _NORMS):
        return "norms"
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return "free"
    return "decayed" if parameter.dim() >= 2 and "weight" in name else "free"
