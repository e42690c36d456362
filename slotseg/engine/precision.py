"""Automatic mixed precision on CPUs and GPUs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from detectron2.config import CfgNode

from slotseg.errors import ConfigError

_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def build_autocast(
    cfg: CfgNode, device: torch.device
) -> Callable[[], AbstractContextManager[object]]:
    """A function that opens the context in which the model computes its losses.

    Raises:
        ConfigError: ``SOLVER.AMP.DTYPE`` is unknown, or float16 without CUDA.
    """
    if not cfg.SOLVER.AMP.ENABLED:
        return nullcontext
    dtype = _amp_type(cfg, device)
    return lambda: torch.autocast(device.type, dtype=dtype)


def build_grad_scaler(cfg: CfgNode, device: torch.device) -> torch.amp.GradScaler:
    """Loss scaling for float16; does nothing otherwise, bfloat16 has float32's range."""
    amp = cfg.SOLVER.AMP
    enabled = bool(amp.ENABLED) and _amp_type(cfg, device) == torch.float16
    return torch.amp.GradScaler(device.type, enabled=enabled)


def _amp_type(cfg: CfgNode, device: torch.device) -> torch.dtype:
    name = cfg.SOLVER.AMP.DTYPE
    if name not in _TYPES:
        raise ConfigError(f"SOLVER.AMP.DTYPE: unknown type {name!r}; choose {', '.join(_TYPES)}")
    if name == "float16" and device.type != "cuda":
        raise ConfigError(
            f"SOLVER.AMP.DTYPE: float16 needs MODEL.DEVICE cuda and the device is {device.type}; "
            "use bfloat16"
        )
    return _TYPES[name]
