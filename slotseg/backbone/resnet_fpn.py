"""Detectron2's ResNet with a feature pyramid, without the levels that nobody takes."""

from __future__ import annotations

from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone, build_resnet_backbone
from torch import Tensor, nn

from slotseg.errors import ConfigError


class TrimmedFPN(FPN):
    """A feature pyramid (Lin et al. 2017) that gives some of its levels only.

    The way down from the coarsest level is whole. The last convolution of a level that is not
    given, however, would cost time, and no loss would ever train it.

    Args:
        bottom_up: the backbone under it.
        in_features: its maps, from fine to coarse; none finer than the finest level that is given,
            which would be made for nothing.
        out_channels: of every level.
        out_features: the levels that are given, "p<log2 of the stride>".
        norm: Detectron2's name of the norm after every convolution; empty: none.
        fuse_type: "sum" or "avg" of the maps that meet.

    Raises:
        ConfigError: no levels, or some that the pyramid does not have.
    """

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: Sequence[str],
        out_channels: int,
        out_features: Sequence[str],
        norm: str = "",
        fuse_type: str = "sum",
    ) -> None:
        super().__init__(bottom_up, list(in_features), out_channels, norm, fuse_type=fuse_type)
        levels = list(self._out_features)
        if not out_features or any(name not in levels for name in out_features):
            raise ConfigError(
                f"MODEL.FPN.OUT_FEATURES: {list(out_features)}, but the pyramid has "
                f"{', '.join(levels)}; name some of these"
            )
        self._given = [name for name in levels if name in out_features]
        # From coarse to fine, as the parent's forward goes through them.
        for index, name in enumerate(reversed(levels)):
            if name not in self._given:
                self.output_convs[index] = nn.Identity()
                delattr(self, f"fpn_output{name[1:]}")

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Normalised pixels ``[B, 3, H, W]`` to the levels ``p<n>`` ``[B, C, H / 2^n, W / 2^n]``.

        H and W have to be divisible by ``size_divisibility``.
        """
        levels = super().forward(x)
        return {name: levels[name] for name in self._given}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of the levels that are given."""
        shapes = super().output_shape()
        return {name: shapes[name] for name in self._given}


@BACKBONE_REGISTRY.register()
def build_trimmed_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TrimmedFPN:
    """Build :class:`TrimmedFPN` on Detectron2's ResNet: ``MODEL.RESNETS`` and ``MODEL.FPN``.

    Weights of ``build_resnet_fpn_backbone`` fit: the parameters have the same names.
    """
    node = cfg.MODEL.FPN
    return TrimmedFPN(
        build_resnet_backbone(cfg, input_shape),
        node.IN_FEATURES,
        node.OUT_CHANNELS,
        node.OUT_FEATURES,
        node.NORM,
        node.FUSE_TYPE,
    )
