"""A small U-Net that gives fine maps with wide context at little cost."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn

from slotseg.errors import ConfigError

# Norms of MODEL.UNET.NORM.
_NORMS = ("GN", "BN", "SyncBN", "naiveSyncBN")


def _norm(channels: int, kind: str) -> nn.Module:
    # Eight channels a group, as the maps have few.
    return (
        nn.GroupNorm(max(1, channels // 8), channels) if kind == "GN" else get_norm(kind, channels)
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each with a norm, added to their input (He et al. 2016)."""

    def __init__(self, channels: int, norm: str = "GN") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = _norm(channels, norm)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = _norm(channels, norm)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the same shape."""
        out = F.relu(self.norm1(self.conv1(x)))
        return F.relu(x + self.norm2(self.conv2(out)))


class DownStage(nn.Module):
    """Halve the resolution, then refine with residual blocks."""

    def __init__(self, in_channels: int, channels: int, blocks: int, norm: str) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(in_channels, channels, 3, stride=2, padding=1, bias=False)
        self.norm = _norm(channels, norm)
        self.blocks = nn.Sequential(*(ResidualBlock(channels, norm) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to ``[B, C', H/2, W/2]`` (rounded up)."""
        return self.blocks(F.relu(self.norm(self.reduce(x))))


class FuseStage(nn.Module):
    """Refine a finer and a coarser map together (Ronneberger et al. 2015)."""

    def __init__(self, coarse_channels: int, channels: int, norm: str) -> None:
        super().__init__()
        self.project = nn.Conv2d(coarse_channels, channels, 1, bias=False)
        self.merge = nn.Conv2d(2 * channels, channels, 3, padding=1, bias=False)
        self.norm1 = _norm(channels, norm)
        self.refine = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = _norm(channels, norm)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """``[B, C, H, W]`` and ``[B, C', H/2, W/2]`` to ``[B, C, H, W]``."""
        up = F.interpolate(
            self.project(coarse), size=fine.shape[-2:], mode="bilinear", align_corners=False
        )
        merged = F.relu(self.norm1(self.merge(torch.cat([fine, up], dim=1))))
        return F.relu(self.norm2(self.refine(merged)))


class LeanUNet(Backbone):
    """Encoder and top-down path with one map for each power-of-two stride from 2, or from 1.

    Args:
        in_channels: channels of the image.
        channels: channels of the maps at strides 2, 4, 8, ...
        blocks: residual blocks at each stride on the way down.
        full_channels: channels of a map at full resolution, which sees the image through one
            convolution and all else from the map at stride 2: for masks of thin things; 0: none.
        norm: after every convolution of 3x3: "GN" with groups of 8 channels, "BN", or over all
            processes "SyncBN" (CUDA) or "naiveSyncBN".

    Raises:
        ConfigError: channels and blocks of different numbers, or an unknown norm.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        blocks: Sequence[int],
        full_channels: int = 0,
        norm: str = "GN",
    ) -> None:
        super().__init__()
        if norm not in _NORMS:
            raise ConfigError(f"MODEL.UNET.NORM is {norm!r}, expected one of {', '.join(_NORMS)}")
        if len(channels) != len(blocks) or not channels:
            raise ConfigError(
                f"MODEL.UNET: {len(channels)} CHANNELS but {len(blocks)} BLOCKS; "
                "give one number of blocks for each stride"
            )
        inputs = [in_channels, *channels[:-1]]
        self.down = nn.ModuleList(
            DownStage(before, width, depth, norm)
            for before, width, depth in zip(inputs, channels, blocks, strict=True)
        )
        self.fuse = nn.ModuleList(
            FuseStage(coarse, fine, norm)
            for fine, coarse in zip(channels[:-1], channels[1:], strict=True)
        )
        self.full_edges = self.full_fuse = None
        names = [f"s{2 ** (level + 1)}" for level in range(len(channels))]
        if full_channels:
            self.full_edges = nn.Sequential(
                nn.Conv2d(in_channels, full_channels, 3, padding=1, bias=False),
                _norm(full_channels, norm),
                nn.ReLU(inplace=True),
            )
            self.full_fuse = FuseStage(channels[0], full_channels, norm)
            names, channels = ["s1", *names], [full_channels, *channels]
        self._out_features = names
        self._out_feature_channels = dict(zip(names, channels, strict=True))
        self._out_feature_strides = {name: int(name[1:]) for name in names}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """``[B, C, H, W]`` normalised pixels to ``{"s2": [B, C2, H/2, W/2], "s4": ...}``."""
        maps: list[Tensor] = []
        x = images
        for stage in self.down:
            x = stage(x)
            maps.append(x)
        for level in reversed(range(len(self.fuse))):
            maps[level] = self.fuse[level](maps[level], maps[level + 1])
        if self.full_fuse is not None:
            maps.insert(0, self.full_fuse(self.full_edges(images), maps[0]))
        return dict(zip(self._out_features, maps, strict=True))


@BACKBONE_REGISTRY.register()
def build_lean_unet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> LeanUNet:
    """Build :class:`LeanUNet` from ``MODEL.UNET``."""
    node = cfg.MODEL.UNET
    return LeanUNet(input_shape.channels, node.CHANNELS, node.BLOCKS, node.FULL_CHANNELS, node.NORM)
