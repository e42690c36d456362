"""Mamba among the pixels: tokens that tell each other what they are before slots compete."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import Tensor, nn

from slotseg.errors import ConfigError
from slotseg.ops.selective_scan import selective_scan
from slotseg.slots.selective import SelectiveParameters, mamba_sizes
from slotseg.slots.tokens import Tokens

# Raster order and column order, each forwards and backwards.
_DIRECTIONS = 4


class MambaTokenMixer(nn.Module):
    """A residual Mamba block over the pixels of a map, in four directions.

    As the visual state-space block of VMamba (Liu et al. 2024): norm, projection to E channels and
    a gate, a 3x3 depthwise convolution, selective scans along rows and along columns, each both
    ways and with parameters of their own, the sum of which is normalised, gated and projected
    back. Every pixel then knows of all others, at a cost linear in their number. Unlike Slot
    Attention alone, which treats pixels as a set, the result depends on their order.

    Args:
        dim: length D of a token.
        expand: E / D.
        state_dim: N, states of a channel.
    """

    def __init__(self, *, dim: int, expand: int, state_dim: int) -> None:
        super().__init__()
        channels = dim * expand
        self.norm = nn.LayerNorm(dim)
        self.to_channels = nn.Linear(dim, 2 * channels, bias=False)
        self.neighbours = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.select = SelectiveParameters(
            channels, state_dim, step_range=(0.001, 0.1), scans=_DIRECTIONS
        )
        self.norm_scanned = nn.LayerNorm(channels)
        self.to_tokens = nn.Linear(channels, dim, bias=False)

    def forward(self, tokens: Tokens) -> Tokens:
        """Tokens of the same shape and grid."""
        x, gate = self.to_channels(self.norm(tokens.values)).chunk(2, dim=-1)
        image = x.transpose(1, 2).unflatten(2, tokens.grid)
        x = F.silu(self.neighbours(image)).flatten(2).transpose(1, 2)
        mixed = self.norm_scanned(self.scan(x, tokens.grid)) * F.silu(gate)
        return Tokens(tokens.values + self.to_tokens(mixed), tokens.grid)

    def scan(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Sum of the scans in all directions, ``[B, N, E]`` to the same shape.

        The four sequences are groups of channels of one scan, so that they run side by side.
        """
        by_column = _transpose(x, grid)
        directions = torch.stack([x, by_column, x.flip(1), by_column.flip(1)], dim=2)
        steps, B, C = self.select(directions)
        y = selective_scan(
            directions.flatten(2).transpose(1, 2),
            steps.flatten(2).transpose(1, 2),
            self.select.A,
            B.permute(0, 2, 3, 1),
            C.permute(0, 2, 3, 1),
            self.select.skip,
            delta_bias=self.select.step_bias,
            delta_softplus=True,
        )
        y = y.transpose(1, 2).unflatten(2, (_DIRECTIONS, -1))
        both_ways = y[:, :, :2] + y[:, :, 2:].flip(1)
        by_row, by_column = both_ways.unbind(2)
        return by_row + _transpose(by_column, grid[::-1])


def build_token_mixer(cfg: CfgNode) -> nn.Module:
    """Build ``MODEL.SLOTS.GROUPING.TOKEN_MIXER``: tokens to tokens.

    Raises:
        ConfigError: an unknown name, or sizes below 1.
    """
    name = cfg.MODEL.SLOTS.GROUPING.TOKEN_MIXER
    if name == "none":
        return nn.Identity()
    if name == "mamba":
        return MambaTokenMixer(dim=cfg.MODEL.SLOTS.DIM, **mamba_sizes(cfg))
    raise ConfigError(
        f"MODEL.SLOTS.GROUPING.TOKEN_MIXER: unknown mixer {name!r}; choose none or mamba"
    )


def _transpose(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """A map ``[B, H * W, E]`` in raster order to ``[B, W * H, E]``, column by column."""
    return x.unflatten(1, grid).transpose(1, 2).flatten(1, 2)
