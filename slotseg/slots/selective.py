"""What Mamba's scans over pixels and over iterations have in common."""

from __future__ import annotations

import math

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from slotseg.errors import ConfigError


class SelectiveParameters(nn.Module):
    """What makes a scan selective: step sizes, input and output weights as functions of the input.

    For each of G independent scans over E channels with N states (Gu and Dao 2023, section 3.2
    and appendix C): the step size passes through a bottleneck of ``ceil(E / 16)`` numbers, its
    bias starts such that steps are spread evenly, in the logarithm, over ``step_range``; ``A``
    starts at -1, ..., -N in every channel and ``D`` at 1.

    Args:
        channels: E.
        state_dim: N, at least 1.
        step_range: smallest and largest step size at the start. A state is forgotten after about
            1 to N times the inverse of the step size.
        scans: G.
    """

    def __init__(
        self, channels: int, state_dim: int, step_range: tuple[float, float], scans: int = 1
    ) -> None:
        super().__init__()
        self.scans = scans
        self.rank = math.ceil(channels / 16)
        self.state_dim = state_dim
        bound = channels**-0.5
        self.select_weight = nn.Parameter(
            torch.empty(scans, self.rank + 2 * state_dim, channels).uniform_(-bound, bound)
        )
        bound = self.rank**-0.5
        self.step_weight = nn.Parameter(
            torch.empty(scans, channels, self.rank).uniform_(-bound, bound)
        )
        low, high = (math.log(x) for x in step_range)
        steps = torch.empty(scans * channels).uniform_(low, high).exp()
        # The inverse of softplus.
        self.step_bias = nn.Parameter(steps + torch.log(-torch.expm1(-steps)))
        decays = torch.arange(1.0, state_dim + 1).log()
        self.log_decay = nn.Parameter(decays.expand(scans * channels, state_dim).clone())
        self.skip = nn.Parameter(torch.ones(scans * channels))

    @property
    def A(self) -> Tensor:
        """``[G * E, N]``, negative."""
        return -self.log_decay.exp()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Step sizes before bias and softplus ``[..., G, E]``, B and C ``[..., G, N]`` of ``x``.

        Args:
            x: ``[..., G, E]``.
        """
        selected = torch.einsum("...ge,gre->...gr", x, self.select_weight)
        steps, B, C = selected.split([self.rank, self.state_dim, self.state_dim], dim=-1)
        return torch.einsum("...gr,ger->...ge", steps, self.step_weight), B, C


def mamba_sizes(cfg: CfgNode) -> dict[str, int]:
    """``MODEL.SLOTS.MAMBA`` as keyword arguments.

    Raises:
        ConfigError: a size below 1.
    """
    mamba = cfg.MODEL.SLOTS.MAMBA
    for key in ("EXPAND", "STATE_DIM"):
        if mamba[key] < 1:
            raise ConfigError(f"MODEL.SLOTS.MAMBA.{key} is {mamba[key]}; give at least 1")
    return {"expand": mamba.EXPAND, "state_dim": mamba.STATE_DIM}
