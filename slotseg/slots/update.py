"""How a slot takes in what it has just gathered.

Every update has the same two methods, so that one with a memory of its own can replace the other:
``start`` makes the memory of a new image, ``forward`` hands it on from iteration to iteration.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import Tensor, nn

from slotseg.errors import ConfigError
from slotseg.ops.selective_scan import selective_scan_step
from slotseg.slots.selective import SelectiveParameters, mamba_sizes


class GRUUpdate(nn.Module):
    """A gated recurrent unit whose hidden state is the slot (Locatello et al. 2020, algorithm 1).

    Args:
        dim: length D of a slot.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gru = nn.GRUCell(dim, dim)

    def start(self, slots: Tensor) -> None:
        """The memory before the first iteration, for initial ``slots`` ``[B, K, D]``: none."""
        return None

    def forward(self, gathered: Tensor, slots: Tensor, memory: None) -> tuple[Tensor, None]:
        """New slots ``[B, K, D]`` and no memory, from ``gathered`` and ``slots`` of that shape."""
        flat = self.gru(gathered.flatten(0, 1), slots.flatten(0, 1).to(gathered.dtype))
        return flat.unflatten(0, slots.shape[:2]), memory


class MambaUpdate(nn.Module):
    """A Mamba block that scans over the iterations of every slot by itself.

    What a slot gathers in iteration 1, 2, ... is a short sequence; a selective state-space model
    (Gu and Dao 2023) reads it one element at a time and adds its output to the slot. Unlike a GRU,
    whose only memory is the slot, it keeps N states for each of E channels. As in a GRU, what is
    taken in and what is let through depends on the slot as well as on what it gathered.

    Slots stay exchangeable: each has a sequence of its own and all share the parameters.

    Args:
        dim: length D of a slot.
        expand: E / D.
        state_dim: N, states of a channel.
    """

    def __init__(self, *, dim: int, expand: int, state_dim: int) -> None:
        super().__init__()
        channels = dim * expand
        self.norm = nn.LayerNorm(dim)
        self.to_channels = nn.Linear(2 * dim, 2 * channels, bias=False)
        # Ten times Mamba's steps: sequences of a few iterations are to be forgotten within them.
        self.select = SelectiveParameters(channels, state_dim, step_range=(0.01, 1.0))
        self.to_slots = nn.Linear(channels, dim, bias=False)

    def start(self, slots: Tensor) -> Tensor:
        """Empty states ``[B, K, E, N]`` for initial ``slots`` ``[B, K, D]``."""
        dtype = torch.promote_types(slots.dtype, torch.float32)
        return slots.new_zeros(*slots.shape[:2], *self.select.A.shape, dtype=dtype)

    def forward(self, gathered: Tensor, slots: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """New slots ``[B, K, D]`` and states, from ``gathered`` and ``slots`` of that shape."""
        seen = torch.cat([gathered, self.norm(slots).to(gathered.dtype)], dim=-1)
        x, gate = self.to_channels(seen).chunk(2, dim=-1)
        x = F.silu(x)
        steps, B, C = (part.squeeze(-2) for part in self.select(x.unsqueeze(-2)))
        y, memory = selective_scan_step(
            memory,
            x,
            steps,
            self.select.A,
            B,
            C,
            self.select.skip,
            z=gate,
            delta_bias=self.select.step_bias,
            delta_softplus=True,
        )
        return slots + self.to_slots(y), memory


def build_update(cfg: CfgNode) -> nn.Module:
    """Build ``MODEL.SLOTS.GROUPING.UPDATE``.

    Raises:
        ConfigError: an unknown name, or sizes below 1.
    """
    grouping, dim = cfg.MODEL.SLOTS.GROUPING, cfg.MODEL.SLOTS.DIM
    if grouping.UPDATE == "gru":
        return GRUUpdate(dim)
    if grouping.UPDATE == "mamba":
        return MambaUpdate(dim=dim, **mamba_sizes(cfg))
    raise ConfigError(
        f"MODEL.SLOTS.GROUPING.UPDATE: unknown update {grouping.UPDATE!r}; choose gru or mamba"
    )
