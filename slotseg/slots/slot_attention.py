"""Slot Attention."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from slotseg.errors import ConfigError
from slotseg.slots.build import SLOT_GROUPING_REGISTRY
from slotseg.slots.state import SlotState
from slotseg.slots.token_mixer import build_token_mixer
from slotseg.slots.tokens import Tokens
from slotseg.slots.update import GRUUpdate, build_update


@SLOT_GROUPING_REGISTRY.register()
class SlotAttention(nn.Module):
    """Slots compete for pixels over a few iterations (Locatello et al. 2020, algorithm 1).

    Each iteration takes the softmax of the dot products over the *slots*, normalises it over the
    pixels into a weighted mean of the values, and updates the slots by a GRU and a residual MLP.
    The softmax and the normalisation over pixels run in float32 also under autocast.

    Args:
        dim: length D of slots and tokens.
        iterations: number of rounds, at least 1.
        mlp_dim: hidden units of the residual MLP.
        epsilon: added to the attention before its normalisation over pixels.
        bo_qsa: gradients flow through the last iteration only, straight through to the initial
            slots (Jia et al. 2023, "Improving Object-centric Learning with Query Optimization").
            Losses on the slots of earlier iterations reach these iterations all the same.
        self_attention_heads: heads of a residual self-attention between the slots after each
            iteration; 0 leaves it out, as published.
        token_mixer: tokens to tokens, before keys and values are made of them; None leaves it
            out, as published. Without it pixels are exchangeable.
        update: how slots take in what they gathered (``slots/update.py``); None is the GRU, as
            published.
    """

    @configurable
    def __init__(
        self,
        *,
        dim: int,
        iterations: int,
        mlp_dim: int,
        epsilon: float,
        bo_qsa: bool,
        self_attention_heads: int,
        token_mixer: nn.Module | None = None,
        update: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if iterations < 1:
            raise ConfigError(f"MODEL.SLOTS.GROUPING.ITERATIONS is {iterations}; give at least 1")
        if self_attention_heads and dim % self_attention_heads:
            raise ConfigError(
                f"MODEL.SLOTS.GROUPING.SELF_ATTENTION_HEADS {self_attention_heads} does not "
                f"divide MODEL.SLOTS.DIM {dim}"
            )
        self.iterations = iterations
        self.epsilon = epsilon
        self.bo_qsa = bo_qsa
        self.scale = dim**-0.5
        self.token_mixer = token_mixer or nn.Identity()
        self.norm_tokens = nn.LayerNorm(dim)
        self.norm_slots = nn.LayerNorm(dim)
        self.norm_mlp = nn.LayerNorm(dim)
        self.to_query = nn.Linear(dim, dim, bias=False)
        self.to_key = nn.Linear(dim, dim, bias=False)
        self.to_value = nn.Linear(dim, dim, bias=False)
        self.update = update or GRUUpdate(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, mlp_dim), nn.ReLU(inplace=True), nn.Linear(mlp_dim, dim)
        )
        self.self_attention = (
            SlotSelfAttention(dim, self_attention_heads) if self_attention_heads else nn.Identity()
        )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.SLOTS.GROUPING``."""
        grouping = cfg.MODEL.SLOTS.GROUPING
        return {
            "dim": cfg.MODEL.SLOTS.DIM,
            "iterations": grouping.ITERATIONS,
            "mlp_dim": grouping.MLP_DIM,
            "epsilon": grouping.EPSILON,
            "bo_qsa": grouping.BO_QSA,
            "self_attention_heads": grouping.SELF_ATTENTION_HEADS,
            "token_mixer": build_token_mixer(cfg),
            "update": build_update(cfg),
        }

    def forward(self, tokens: Tokens, initial: Tensor) -> SlotState:
        """Group ``tokens`` of N = H * W pixels from the ``initial`` slots ``[B, K, D]``."""
        keys, values = self.keys_and_values(tokens)
        slots, memory = initial, self.update.start(initial)
        after: list[Tensor] = []
        for iteration in range(self.iterations):
            if self.bo_qsa and iteration == self.iterations - 1:
                slots, memory = straight_through(slots, initial), without_gradient(memory)
            attention = self.compete(slots, keys).softmax(dim=1)
            slots, memory = self.refine(slots, self.gather(attention, values), memory)
            after.append(slots)
        return SlotState(slots, attention.unflatten(2, tokens.grid), earlier=tuple(after[:-1]))

    def keys_and_values(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """What slots are compared with and what they gather, each ``[B, N, D]``."""
        normed = self.norm_tokens(self.token_mixer(tokens).values)
        return self.to_key(normed), self.to_value(normed)

    def compete(self, slots: Tensor, keys: Tensor) -> Tensor:
        """How much slots ``[B, K, D]`` want pixels ``[B, N, D]``: logits ``[B, K, N]`` float32."""
        queries = self.to_query(self.norm_slots(slots)) * self.scale
        return (queries @ keys.transpose(1, 2)).float()

    def gather(self, attention: Tensor, values: Tensor) -> Tensor:
        """Mean ``[B, K, D]`` of the ``values`` ``[B, N, D]`` under ``attention`` ``[B, K, N]``."""
        weights = attention + self.epsilon
        weights = weights / weights.sum(dim=2, keepdim=True)
        return weights.to(values.dtype) @ values

    def refine(
        self, slots: Tensor, gathered: Tensor, memory: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The next slots ``[B, K, D]`` from what they gathered, and the update's memory."""
        slots, memory = self.update(gathered, slots, memory)
        slots = slots + self.mlp(self.norm_mlp(slots))
        return self.self_attention(slots), memory


def straight_through(slots: Tensor, initial: Tensor) -> Tensor:
    """``slots`` whose gradient goes to the ``initial`` ones, past all iterations between."""
    return slots.detach() + initial - initial.detach()


def without_gradient(memory: Tensor | None) -> Tensor | None:
    """The memory of an update as a constant: the other way back to earlier iterations."""
    return None if memory is None else memory.detach()


class SlotSelfAttention(nn.Module):
    """Residual multi-head self-attention between the slots of an image (pre-norm).

    Args:
        dim: length D of a slot.
        heads: number of heads, a divisor of ``dim``.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim)

    def forward(self, slots: Tensor) -> Tensor:
        """``[B, K, D]`` to the same shape."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.to_qkv(self.norm(slots)).chunk(3, dim=-1)
        )
        mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        return slots + self.out(mixed.transpose(1, 2).flatten(2))
