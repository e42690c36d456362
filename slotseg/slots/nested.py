"""Slot-in-slot: slots that divide among themselves what their parent sees."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from slotseg.errors import ConfigError
from slotseg.slots.build import SLOT_GROUPING_REGISTRY
from slotseg.slots.slot_attention import SlotAttention, straight_through, without_gradient
from slotseg.slots.state import ParentSlots, SlotState
from slotseg.slots.tokens import Tokens


@SLOT_GROUPING_REGISTRY.register()
class NestedSlotAttention(SlotAttention):
    """Two levels of Slot Attention in one loop.

    M parents compete for pixels, and the S sub-slots of every parent compete for what it won (the
    slot-in-slot attention of "Exposure-slot", CVPR 2025).

    In every iteration the parents take their softmax over M, and a parent's sub-slots a softmax
    over S; the product of the two is what a sub-slot sees. It sums to 1 over all K = M * S
    sub-slots of a pixel and to the parent's share over its own, so that masks nest by
    construction, and it gates what sub-slots gather: where the parent does not look there is
    nothing to gather. The comparison itself is not gated: scaling keys by the parent's share
    would soften the competition between siblings wherever no parent is sure yet, that is
    everywhere at the start of training.

    Slot ``k`` is sub-slot ``k % S`` of parent ``k // S``. It starts at its parent's initial slot
    plus a learnt offset of that sub-slot, the same for all parents, in units of the initial slot's
    length; so parents stay exchangeable while siblings differ. The offsets start orthogonal, which
    for orthogonal parents gives siblings a cosine similarity of 0.5.

    Both levels share the projections of pixels (their cost is that of the pixels, and both levels
    are to speak of the same pixels) and the update of slots (a sub-slot lives where its parent
    does and takes in a mean of values as it does). The query is each level's own: "which region"
    and "which part of my region" are different questions to the same keys.

    Args:
        dim: length D of slots and tokens.
        sub_slots: S, the sub-slots of every parent, 1 to ``dim``; 1 is Slot Attention with
            offset slots.
        options: the others of :class:`~slotseg.slots.SlotAttention`; each holds for both levels.

    Raises:
        ConfigError: an impossible number of sub-slots, or an impossible option.
    """

    @configurable
    def __init__(self, *, dim: int, sub_slots: int, **options: Any) -> None:
        super().__init__(dim=dim, **options)
        if not 1 <= sub_slots <= dim:
            raise ConfigError(
                f"MODEL.SLOTS.GROUPING.SUB_SLOTS is {sub_slots}; give 1 to MODEL.SLOTS.DIM = {dim}"
            )
        self.sub_slots = sub_slots
        self.offsets = nn.Parameter(nn.init.orthogonal_(torch.empty(sub_slots, dim)))
        self.norm_sub_slots = nn.LayerNorm(dim)
        self.to_sub_query = nn.Linear(dim, dim, bias=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.SLOTS.GROUPING``."""
        return {**super().from_config(cfg), "sub_slots": cfg.MODEL.SLOTS.GROUPING.SUB_SLOTS}

    def forward(self, tokens: Tokens, initial: Tensor) -> SlotState:
        """Group ``tokens`` of N = H * W pixels from the parents' ``initial`` slots ``[B, M, D]``.

        Returns:
            The K = M * S sub-slots, their joint attention, and the parents.
        """
        keys, values = self.keys_and_values(tokens)
        initial_subs = self.start_sub_slots(initial)
        parents, parent_memory = initial, self.update.start(initial)
        subs, sub_memory = initial_subs, self.update.start(initial_subs)
        after: list[Tensor] = []
        for iteration in range(self.iterations):
            if self.bo_qsa and iteration == self.iterations - 1:
                parents = straight_through(parents, initial)
                subs = straight_through(subs, initial_subs)
                parent_memory = without_gradient(parent_memory)
                sub_memory = without_gradient(sub_memory)
            parent_share = self.compete(parents, keys).softmax(dim=1)
            share = self.divide(subs, keys, parent_share)
            gathered = self.gather(parent_share, values)
            parents, parent_memory = self.refine(parents, gathered, parent_memory)
            subs, sub_memory = self.refine(subs, self.gather(share, values), sub_memory)
            after.append(subs)
        return SlotState(
            subs,
            share.unflatten(2, tokens.grid),
            ParentSlots(
                parents,
                parent_share.unflatten(2, tokens.grid),
                torch.arange(subs.shape[1], device=subs.device) // self.sub_slots,
            ),
            earlier=tuple(after[:-1]),
        )

    def start_sub_slots(self, initial: Tensor) -> Tensor:
        """Initial sub-slots ``[B, M * S, D]`` of the parents' initial slots ``[B, M, D]``."""
        parents = initial.unsqueeze(2)
        return (parents + parents.norm(dim=-1, keepdim=True) * self.offsets).flatten(1, 2)

    def divide(self, subs: Tensor, keys: Tensor, parent_share: Tensor) -> Tensor:
        """The parents' shares of pixels, divided among their sub-slots.

        Args:
            subs: ``[B, M * S, D]``.
            keys: ``[B, N, D]``.
            parent_share: float32 ``[B, M, N]``, softmax over M.

        Returns:
            float32 ``[B, M * S, N]``, for every parent summing to its share over its sub-slots.
        """
        queries = self.to_sub_query(self.norm_sub_slots(subs)) * self.scale
        logits = (queries @ keys.transpose(1, 2)).float().unflatten(1, (-1, self.sub_slots))
        return (parent_share.unsqueeze(2) * logits.softmax(dim=2)).flatten(1, 2)
