"""From a feature map to the sequence of pixels that slots compete for."""

from __future__ import annotations

from dataclasses import dataclass

from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from slotseg.slots.position import build_position


@dataclass(frozen=True)
class Tokens:
    """Pixels of one map as a sequence.

    Attributes:
        values: ``[B, N, D]``, row by row.
        grid: (height, width) with height * width = N.
    """

    values: Tensor
    grid: tuple[int, int]


class PixelTokens(nn.Module):
    """Position embedding, LayerNorm and an MLP over every pixel, as the published encoder ends.

    Args:
        in_channels: channels of the feature map.
        dim: length D of a token.
        position: "soft", "fourier" or "none".
    """

    @configurable
    def __init__(self, *, in_channels: int, dim: int, position: str) -> None:
        super().__init__()
        self.position = build_position(position, in_channels)
        self.norm = nn.LayerNorm(in_channels)
        self.mlp = nn.Sequential(
            nn.Linear(in_channels, dim), nn.ReLU(inplace=True), nn.Linear(dim, dim)
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: int) -> dict:
        """Read ``MODEL.SLOTS``."""
        slots = cfg.MODEL.SLOTS
        return {"in_channels": in_channels, "dim": slots.DIM, "position": slots.POSITION}

    def forward(self, features: Tensor) -> Tokens:
        """``[B, C, H, W]`` to tokens of length D."""
        values = self.position(features).flatten(2).transpose(1, 2)
        return Tokens(self.mlp(self.norm(values)), tuple(features.shape[-2:]))
