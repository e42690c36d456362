"""A light mask decoder: products of slots and pixels."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from slotseg.decoders.build import DECODER_REGISTRY
from slotseg.decoders.decoded import Decoded
from slotseg.errors import ConfigError
from slotseg.ops.grid import unit_grid
from slotseg.slots.position import build_position
from slotseg.slots.state import SlotState


@DECODER_REGISTRY.register()
class MaskProductDecoder(nn.Module):
    """Mask logits as dot products of slot and pixel embeddings (as in Cheng et al. 2021, eq. 1).

    Both embeddings are small MLPs; pixels carry their position, so that equal objects at
    different places can be told apart. Nothing is decoded per slot and pixel but one product, so
    the cost hardly grows with the number of slots. Optionally every slot adds a quadratic form in
    (x, y), a soft window.

    Args:
        slot_dim: length D of a slot.
        in_feature: name of the backbone's map; the masks come at its stride.
        in_channels: its channels.
        dim: length of the product.
        position: "soft", "fourier" or "none", added to the map.
        quadratic: whether slots add their quadratic form.
    """

    makes_masks = True
    makes_reconstruction = False

    @configurable
    def __init__(
        self,
        *,
        slot_dim: int,
        in_feature: str,
        in_channels: int,
        dim: int,
        position: str,
        quadratic: bool,
    ) -> None:
        super().__init__()
        self.in_feature = in_feature
        self.pixel_embedding = nn.Sequential(
            build_position(position, in_channels),
            nn.Conv2d(in_channels, 2 * dim, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(2 * dim, dim, 1),
        )
        self.slot_embedding = nn.Sequential(
            nn.LayerNorm(slot_dim),
            nn.Linear(slot_dim, 2 * slot_dim),
            nn.ReLU(inplace=True),
            nn.Linear(2 * slot_dim, dim),
        )
        self.window = nn.Linear(slot_dim, 6) if quadratic else None

    @classmethod
    def from_config(cls, cfg: CfgNode, backbone_shape: dict[str, ShapeSpec]) -> dict:
        """Read ``MODEL.MASK_PRODUCT``."""
        node = cfg.MODEL.MASK_PRODUCT
        if node.IN_FEATURE not in backbone_shape:
            raise ConfigError(
                f"MODEL.MASK_PRODUCT.IN_FEATURE: the backbone has no output {node.IN_FEATURE!r}; "
                f"choose from {', '.join(backbone_shape)}"
            )
        return {
            "slot_dim": cfg.MODEL.SLOTS.DIM,
            "in_feature": node.IN_FEATURE,
            "in_channels": backbone_shape[node.IN_FEATURE].channels,
            "dim": node.DIM,
            "position": node.POSITION,
            "quadratic": node.QUADRATIC,
        }

    def forward(self, slots: SlotState, features: dict[str, Tensor], images: Tensor) -> Decoded:
        """Slots ``[B, K, D]`` and a map ``[B, C, h, w]`` to mask logits ``[B, K, h, w]``."""
        pixels = self.pixel_embedding(features[self.in_feature])
        logits = torch.einsum("bkc,bchw->bkhw", self.slot_embedding(slots.slots), pixels).float()
        if self.window is not None:
            logits = logits + self._windows(slots.slots, logits)
        return Decoded(mask_logits=logits)

    def _windows(self, slots: Tensor, logits: Tensor) -> Tensor:
        grid = 2.0 * unit_grid(*logits.shape[-2:], like=logits) - 1.0
        y, x = grid.unbind(-1)
        basis = torch.stack([x * x, x * y, y * y, x, y, torch.ones_like(x)])
        return torch.einsum("bkf,fhw->bkhw", self.window(slots).float(), basis)
