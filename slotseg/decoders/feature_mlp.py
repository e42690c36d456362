"""Slots to features of a frozen backbone."""

from __future__ import annotations

import logging

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.utils.logger import log_first_n
from torch import Tensor, nn

from slotseg.decoders.build import DECODER_REGISTRY
from slotseg.decoders.decoded import Decoded, Regression
from slotseg.errors import ConfigError
from slotseg.slots.position import build_position
from slotseg.slots.state import SlotState


@DECODER_REGISTRY.register()
class FeatureMLPDecoder(nn.Module):
    """Each slot predicts the features at every place, and how much of the place is its own.

    DINOSAUR (Seitzer et al. 2023, section 3.2): an MLP sees a slot and a position and gives a
    feature vector and a mask logit; the map is the sum of the slots' features weighted by the
    softmax of their logits. Two rearrangements make it cheaper without changing a result: the
    first layer is linear in slot and position, so that both are embedded once and added; and the
    last layer is linear too, so that slots are mixed before it instead of after.

    Args:
        slot_dim: length D of a slot.
        target: name of the backbone's map.
        target_channels: its channels.
        hidden: width of the hidden layers.
        layers: their number, at least 1.
        position: "soft" or "fourier".

    Raises:
        ConfigError: no hidden layer, or no position, without which all places look alike.
    """

    makes_masks = True
    makes_reconstruction = False
    makes_features = True

    @configurable
    def __init__(
        self,
        *,
        slot_dim: int,
        target: str,
        target_channels: int,
        hidden: int,
        layers: int,
        position: str,
    ) -> None:
        super().__init__()
        if layers < 1:
            raise ConfigError(f"MODEL.FEATURE_MLP.LAYERS is {layers}, it must be at least 1")
        if position == "none":
            raise ConfigError(
                "MODEL.FEATURE_MLP.POSITION: slots must tell places apart; choose soft or fourier"
            )
        self.target = target
        self.slot_embedding = nn.Sequential(nn.LayerNorm(slot_dim), nn.Linear(slot_dim, hidden))
        self.position = build_position(position, hidden)
        inner = [
            part
            for _ in range(layers - 1)
            for part in (nn.Conv2d(hidden, hidden, 1), nn.ReLU(inplace=True))
        ]
        self.hidden = nn.Sequential(nn.ReLU(), *inner)
        self.mask_logit = nn.Conv2d(hidden, 1, 1)
        self.features = nn.Conv2d(hidden, target_channels, 1)

    @classmethod
    def from_config(cls, cfg: CfgNode, backbone_shape: dict[str, ShapeSpec]) -> dict:
        """Read ``MODEL.FEATURE_MLP``."""
        node = cfg.MODEL.FEATURE_MLP
        if node.TARGET not in backbone_shape:
            raise ConfigError(
                f"MODEL.FEATURE_MLP.TARGET: the backbone has no output {node.TARGET!r}; choose "
                f"from {', '.join(backbone_shape)}"
            )
        return {
            "slot_dim": cfg.MODEL.SLOTS.DIM,
            "target": node.TARGET,
            "target_channels": backbone_shape[node.TARGET].channels,
            "hidden": node.HIDDEN,
            "layers": node.LAYERS,
            "position": node.POSITION,
        }

    def forward(self, slots: SlotState, features: dict[str, Tensor], images: Tensor) -> Decoded:
        """Slots ``[B, K, D]`` to masks at the size of the target, in training also to features."""
        target = features[self.target]
        batch, num_slots, _ = slots.slots.shape
        embedded = self.slot_embedding(slots.slots).flatten(0, 1)[:, :, None, None]
        hidden = self.hidden(self.position(embedded.expand(-1, -1, *target.shape[-2:])))
        mask_logits = self.mask_logit(hidden).float().unflatten(0, (batch, num_slots)).squeeze(2)
        if not self.training:
            return Decoded(mask_logits=mask_logits)
        if target.requires_grad:
            log_first_n(
                logging.WARNING,
                f"MODEL.FEATURE_MLP.TARGET: {self.target} is trained itself, so it may become "
                "constant to be predicted easily; choose a map of a frozen backbone",
                n=1,
                name=__name__,
                key="message",
            )
        masks = mask_logits.softmax(dim=1)
        mixed = torch.einsum(
            "bkhw,bkchw->bchw", masks.to(hidden.dtype), hidden.unflatten(0, (batch, num_slots))
        )
        guess = Regression(self.features(mixed).float(), target.detach().float())
        return Decoded(mask_logits=mask_logits, features=guess)
