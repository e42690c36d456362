"""Trained updates of low rank on frozen matrices."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class LowRankUpdate(nn.Module):
    """``W + up @ down`` (LoRA, Hu et al. 2022, equation 3, with alpha equal to the rank).

    A parametrisation for :mod:`torch.nn.utils.parametrize`, and not a layer around the matrix,
    since some of timm's attentions take the matrix out of its layer. ``up`` starts at zero, so that
    training starts from the pretrained network.

    Args:
        rows, columns: shape of the matrix.
        rank: inner size of the product.
    """

    def __init__(self, rows: int, columns: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, columns))
        self.up = nn.Parameter(torch.zeros(rows, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """``[rows, columns]`` to the updated matrix."""
        return weight + self.up @ self.down
