"""A light mask decoder: products of slots and pixels."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from slotseg.config import slots_have_places
from slotseg.decoders.build import DECODER_REGISTRY
from slotseg.decoders.decoded import Decoded
from slotseg.errors import ConfigError
from slotseg.ops.grid import unit_grid
from slotseg.ops.lattice import Lattice
from slotseg.slots.position import build_position
from slotseg.slots.state import SlotState

# Coordinates go from -1 to 1, so a unit of a window around a place is a quarter of half the height:
# things are mostly smaller than that.
_UNITS_A_SIDE = 4.0


@DECODER_REGISTRY.register()
class MaskProductDecoder(nn.Module):
    """Mask logits as dot products of slot and pixel embeddings (as in Cheng et al. 2021, eq. 1).

    Both embeddings are small MLPs; pixels carry their position, so that equal objects at
    different places can be told apart. Nothing is decoded per slot and pixel but one product, so
    the cost hardly grows with the number of slots. Optionally every slot adds a quadratic form in
    (x, y), a soft window; of a slot that starts at a place it is a window around that place, in
    eighths of the image's height, and at first a round one.

    Args:
        slot_dim: length D of a slot.
        in_feature: name of the backbone's map; the masks come at its stride.
        in_channels: its channels.
        dim: length of the product.
        position: "soft", "fourier" or "none", added to the map.
        quadratic: whether slots add their quadratic form.
        has_places: whether there are slots that start at a place.
        train_step: in training only every so many-th pixel each way is decoded, from a random
            start: fine masks at the cost of coarse ones.

    Raises:
        ConfigError: a map that the backbone does not make, or an impossible step.
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
        has_places: bool = False,
        train_step: int = 1,
    ) -> None:
        super().__init__()
        if train_step < 1:
            raise ConfigError(f"MODEL.MASK_PRODUCT.TRAIN_STEP is {train_step}; give at least 1")
        self.train_step = train_step
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
        self.window_at_place = _round_window(slot_dim) if quadratic and has_places else None

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
            "train_step": node.TRAIN_STEP,
            "has_places": slots_have_places(cfg),
        }

    def forward(self, slots: SlotState, features: dict[str, Tensor], images: Tensor) -> Decoded:
        """Slots ``[B, K, D]`` and a map ``[B, C, h, w]`` to mask logits ``[B, K, h, w]``."""
        position, *embedding = self.pixel_embedding
        placed = position(features[self.in_feature])
        size = tuple(placed.shape[-2:])
        lattice = None
        if self.training and self.train_step > 1:
            lattice = Lattice.random(size, self.train_step)
            placed = lattice.take(placed)
        pixels = nn.Sequential(*embedding)(placed)
        logits = torch.einsum("bkc,bchw->bkhw", self.slot_embedding(slots.slots), pixels).float()
        if self.window is not None:
            logits = logits + self._windows(slots, size, lattice)
        return Decoded(mask_logits=logits, lattice=lattice)

    def _windows(self, slots: SlotState, size: tuple[int, int], lattice: Lattice | None) -> Tensor:
        height, width = size
        grid = 2.0 * unit_grid(height, width, like=slots.slots.float()) - 1.0
        y, x = grid.unbind(-1)
        basis = torch.stack([x * x, x * y, y * y, x, y, torch.ones_like(x)])
        if lattice is not None:
            basis = lattice.take(basis)
        form = self.window(slots.slots).float()
        if self.window_at_place is None:
            return torch.einsum("bkf,fhw->bkhw", form, basis)
        local = self.window_at_place(slots.slots).float()
        center = 2.0 * slots.places.nan_to_num() - 1.0
        moved = move_quadratic(local, center, _UNITS_A_SIDE * width / height, _UNITS_A_SIDE)
        has_place = ~slots.places.isnan().any(dim=2, keepdim=True)
        form = torch.where(has_place, moved, form)
        # Around a place a form is a small difference of large numbers: in the bfloat16 of autocast
        # windows would lie pixels beside their place.
        with torch.autocast(form.device.type, enabled=False):
            return torch.einsum("bkf,fhw->bkhw", form, basis)


def move_quadratic(form: Tensor, center: Tensor, x_scale: float, y_scale: float) -> Tensor:
    """A quadratic form around a place as one around the origin.

    Args:
        form: ``[..., 6]``, factors of ``u u, u v, v v, u, v, 1`` with ``u = x_scale (x - x0)`` and
            ``v = y_scale (y - y0)``.
        center: ``[..., 2]``, (y0, x0).
        x_scale, y_scale: units of u and v.

    Returns:
        ``[..., 6]``, factors of ``x x, x y, y y, x, y, 1``.
    """
    xx, xy, yy, x, y, one = form.unbind(-1)
    y0, x0 = center.unbind(-1)
    xx, xy, yy = xx * x_scale**2, xy * x_scale * y_scale, yy * y_scale**2
    x, y = x * x_scale, y * y_scale
    return torch.stack(
        [
            xx,
            xy,
            yy,
            x - 2.0 * xx * x0 - xy * y0,
            y - 2.0 * yy * y0 - xy * x0,
            one + xx * x0**2 + xy * x0 * y0 + yy * y0**2 - x * x0 - y * y0,
        ],
        dim=-1,
    )


def _round_window(slot_dim: int) -> nn.Linear:
    """To a form that starts as a hill around the place, nearly the same for all slots."""
    layer = nn.Linear(slot_dim, 6)
    with torch.no_grad():
        layer.weight.mul_(0.2)
        layer.bias.copy_(torch.tensor([-1.0, 0.0, -1.0, 0.0, 0.0, 0.0]))
    return layer
