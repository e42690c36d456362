"""Coordinate grids over an image plane."""

from __future__ import annotations

import torch
from torch import Tensor


def unit_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Row and column coordinates in [0, 1], ends included.

    Args:
        height, width: size of the grid in pixels, at least 1; a side of length 1 lies at 0.
        like: a tensor that gives device and dtype.

    Returns:
        ``[height, width, 2]``: (y, x) at every pixel.
    """
    y = torch.linspace(0.0, 1.0, height, device=like.device, dtype=like.dtype)
    x = torch.linspace(0.0, 1.0, width, device=like.device, dtype=like.dtype)
    return torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1)
