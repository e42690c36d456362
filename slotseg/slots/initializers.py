"""How slots start, before they have seen a pixel."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from slotseg.errors import ConfigError
from slotseg.slots.build import SLOT_INITIALIZER_REGISTRY
from slotseg.slots.state import InitialSlots
from slotseg.slots.tokens import Tokens


def _from_config(cfg: CfgNode, backbone_shape: dict[str, ShapeSpec]) -> dict:
    return {"num_slots": cfg.MODEL.SLOTS.NUM_SLOTS, "dim": cfg.MODEL.SLOTS.DIM}


@SLOT_INITIALIZER_REGISTRY.register()
class GaussianInitializer(nn.Module):
    """Samples every slot from one learnt diagonal Gaussian (Locatello et al. 2020, algorithm 1).

    Slots are exchangeable and their number may be changed after training. The samples come from
    PyTorch's global generator, in training and in inference.
    """

    @configurable
    def __init__(self, *, num_slots: int, dim: int) -> None:
        super().__init__()
        self.num_slots = num_slots
        self.mean = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, 1, dim)))
        self.log_std = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, 1, dim)))

    from_config = classmethod(lambda cls, cfg, shape: _from_config(cfg, shape))

    def forward(
        self, tokens: Tokens, features: Mapping[str, Tensor], images: Tensor
    ) -> InitialSlots:
        """Slots ``[B, K, D]`` for a batch of ``tokens``."""
        noise = torch.randn(
            tokens.values.shape[0],
            self.num_slots,
            self.mean.shape[-1],
            device=self.mean.device,
            dtype=self.mean.dtype,
        )
        return InitialSlots(self.mean + self.log_std.exp() * noise)


class _PerSlotInitializer(nn.Module):
    """One learnt vector a slot, the same for every image."""

    @configurable
    def __init__(self, *, num_slots: int, dim: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(self._start(num_slots, dim))

    from_config = classmethod(lambda cls, cfg, shape: _from_config(cfg, shape))

    def _start(self, num_slots: int, dim: int) -> Tensor:
        raise NotImplementedError

    def forward(
        self, tokens: Tokens, features: Mapping[str, Tensor], images: Tensor
    ) -> InitialSlots:
        """Slots ``[B, K, D]`` for a batch of ``tokens``."""
        return InitialSlots(self.queries.expand(tokens.values.shape[0], -1, -1))


@SLOT_INITIALIZER_REGISTRY.register()
class LearnedInitializer(_PerSlotInitializer):
    """Learnt queries, Xavier-uniform at the start (Glorot and Bengio 2010)."""

    def _start(self, num_slots: int, dim: int) -> Tensor:
        return nn.init.xavier_uniform_(torch.empty(num_slots, dim))


@SLOT_INITIALIZER_REGISTRY.register()
class OrthogonalInitializer(_PerSlotInitializer):
    """Learnt queries that start as rows of an orthogonal matrix: cosine similarity exactly 0.

    Raises:
        ConfigError: more slots than dimensions, for which no orthogonal rows exist.
    """

    def _start(self, num_slots: int, dim: int) -> Tensor:
        if num_slots > dim:
            raise ConfigError(
                f"MODEL.SLOTS.NUM_SLOTS {num_slots} exceeds MODEL.SLOTS.DIM {dim}: there are not "
                "so many orthogonal vectors; raise DIM or use LearnedInitializer"
            )
        return nn.init.orthogonal_(torch.empty(num_slots, dim))
