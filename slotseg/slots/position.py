"""Position embeddings for maps."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from slotseg.errors import ConfigError
from slotseg.ops.grid import unit_grid


class SoftPosition(nn.Module):
    """Adds a learnt linear map of (y, x, 1-y, 1-x) (Locatello et al. 2020, appendix E.2).

    Args:
        channels: channels of the map it is added to.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(4, channels)

    def forward(self, features: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the same shape."""
        grid = unit_grid(*features.shape[-2:], like=self.project.weight)
        embedding = self.project(torch.cat([grid, 1.0 - grid], dim=-1))
        return features + embedding.permute(2, 0, 1)


class FourierPosition(nn.Module):
    """Adds a learnt linear map of sines and cosines of the coordinates.

    Frequencies are pi * 2^j, j = 0 ... ``bands - 1`` (Mildenhall et al. 2020, equation 4).

    Args:
        channels: channels of the map it is added to.
        bands: number of octaves; 6 resolve a period of 1/32 of the image side.
    """

    def __init__(self, channels: int, bands: int = 6) -> None:
        super().__init__()
        frequencies = math.pi * 2.0 ** torch.arange(bands, dtype=torch.float32)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.project = nn.Linear(2 + 4 * bands, channels)

    def forward(self, features: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the same shape."""
        grid = unit_grid(*features.shape[-2:], like=self.project.weight)
        angles = (grid.unsqueeze(-1) * self.frequencies).flatten(-2)
        embedding = self.project(torch.cat([grid, angles.sin(), angles.cos()], dim=-1))
        return features + embedding.permute(2, 0, 1)


def build_position(name: str, channels: int) -> nn.Module:
    """``"soft"``, ``"fourier"`` or ``"none"``, as the config keys named POSITION say."""
    if name == "soft":
        return SoftPosition(channels)
    if name == "fourier":
        return FourierPosition(channels)
    if name == "none":
        return nn.Identity()
    raise ConfigError(f"POSITION: {name!r} is unknown; choose soft, fourier or none")
