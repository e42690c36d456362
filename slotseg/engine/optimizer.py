"""Optimisers from the config, with weight decay only where it makes sense."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
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
    as :func:`parameter_groups` says, factors on the learning rate (``LR_FACTORS``, a ViT's layers)
    as :func:`learning_rate_factors` does. AdamW's decay is decoupled from the gradient (Loshchilov
    and Hutter 2019); Adam's and SGD's is an L2 penalty. Detectron2's ``BIAS_LR_FACTOR`` and
    ``WEIGHT_DECAY_BIAS``, which only reproduce its first version, do not count.

    Raises:
        ConfigError: an unknown optimiser, a model without trainable parameters, or factors that
            fit no parameter.
    """
    solver = cfg.SOLVER
    groups = parameter_groups(
        model,
        weight_decay=solver.WEIGHT_DECAY,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        lr_factors=learning_rate_factors(model, solver.LR_FACTORS),
    )
    if not groups:
        raise ConfigError("the model has no trainable parameter; unfreeze one of its parts")
    for group in groups:
        # Not a setting of the optimiser, whose saved state would then hold one more number.
        group["lr"] = solver.BASE_LR * group.pop("lr_factor")
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
    model: nn.Module,
    *,
    weight_decay: float,
    weight_decay_norm: float = 0.0,
    lr_factors: Mapping[nn.Parameter, float] | None = None,
) -> list[dict[str, Any]]:
    """Split trainable parameters by how they decay, and by how fast they learn.

    * decayed with ``weight_decay``: matrices and kernels of layers, that is parameters with two or
      more dimensions whose own name contains ``weight``;
    * with ``weight_decay_norm``: parameters of normalisation layers;
    * not at all: the rest, that is biases, embeddings, and free parameters such as slot
      initialisers and position maps, which are values rather than maps between values and which
      a pull to zero would only make alike.

    Args:
        lr_factors: of parameters that learn at another rate than the base rate.

    Returns:
        Groups in a fixed order with a ``name`` and an ``lr_factor``: those at the base rate
        first, then from the largest factor down; empty ones are left out, shared parameters
        counted once.
    """
    factors = lr_factors or {}
    groups: dict[tuple[float, str], list[nn.Parameter]] = defaultdict(list)
    seen: set[nn.Parameter] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            groups[factors.get(parameter, 1.0), _kind(module, name, parameter)].append(parameter)
    decays = {"decayed": weight_decay, "norms": weight_decay_norm, "free": 0.0}
    return [
        {
            "name": kind if factor == 1.0 else f"{kind}, rate x {factor:.4g}",
            "params": groups[factor, kind],
            "weight_decay": decays[kind],
            "lr_factor": factor,
        }
        # The first group's rate is the one that is logged.
        for factor in sorted({f for f, _ in groups}, key=lambda f: (f != 1.0, -f))
        for kind in decays
        if (factor, kind) in groups
    ]


def learning_rate_factors(
    model: nn.Module, by_prefix: Sequence[str] = ()
) -> dict[nn.Parameter, float]:
    """Factors on the learning rate of single parameters; those that are not listed have 1.

    A module that wants its parts to learn at different rates says so by a method
    ``learning_rate_factors`` that gives pairs of a parameter and its factor. Those of the config
    come on top.

    Args:
        model: the model, or a part of it.
        by_prefix: of ``SOLVER.LR_FACTORS``: "<start of the parameters' names>=<factor>"; of two
            that fit a name, the later one counts.

    Raises:
        ConfigError: an entry of another form, or one that fits no name.
    """
    own: dict[nn.Parameter, float] = {}
    for module in model.modules():
        if hasattr(module, "learning_rate_factors"):
            own.update(module.learning_rate_factors())
    chosen: dict[nn.Parameter, float] = {}
    for entry in by_prefix:
        prefix, factor = _parse_factor(entry)
        fitting = [p for name, p in model.named_parameters() if _is_under(name, prefix)]
        if not fitting:
            parts = ", ".join(name for name, _ in model.named_children())
            raise ConfigError(
                f"SOLVER.LR_FACTORS: no parameter's name starts with {prefix!r}; the model's parts "
                f"are {parts}"
            )
        chosen.update(dict.fromkeys(fitting, factor))
    return {p: own.get(p, 1.0) * chosen.get(p, 1.0) for p in {**own, **chosen}}


def _parse_factor(entry: str) -> tuple[str, float]:
    prefix, _, number = entry.partition("=")
    try:
        factor = float(number)
    except ValueError:
        factor = math.nan
    if not prefix or not 0.0 < factor < math.inf:
        raise ConfigError(
            f'SOLVER.LR_FACTORS: {entry!r} should look like "decoders.1=2.0", the start of '
            "parameters' names and a factor above 0"
        )
    return prefix, factor


def _is_under(name: str, prefix: str) -> bool:
    """Whole parts only: "decoders.1" is not the start of "decoders.10.weight"."""
    return name == prefix or name.startswith(prefix.rstrip(".") + ".")


def _kind(module: nn.Module, name: str, parameter: nn.Parameter) -> str:
    if isinstance(module, _NORMS):
        return "norms"
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return "free"
    return "decayed" if parameter.dim() >= 2 and "weight" in name else "free"
