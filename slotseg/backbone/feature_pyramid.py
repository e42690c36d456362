"""The simple feature pyramid of ViTDet: maps of several strides from the last one of a ViT."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn

from slotseg.backbone.vit import KEYS, VisionTransformerBackbone, build_dinov2_backbone
from slotseg.errors import ConfigError

# The ViT's own map, beside the level of the same stride.
PLAIN = "plain"


class HalvedMap(nn.Module):
    """The largest value of every 2x2 pixels; an odd side is cut into (side + 1) / 2 equal parts.

    Each pixel of the result then stands for the same share of the image, with windows that overlap
    by a pixel where the side is odd.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, h, w]`` to ``[B, C, (h + 1) // 2, (w + 1) // 2]``."""
        height, width = x.shape[-2:]
        if height % 2 == 0 and width % 2 == 0:
            return F.max_pool2d(x, 2)
        return F.adaptive_max_pool2d(x, ((height + 1) // 2, (width + 1) // 2))


class VisionTransformerPyramid(Backbone):
    """Levels that are each made from the last map of a ViT (Li et al. 2022, ViTDet, section 3).

    A level of half the stride is a 2x2 transposed convolution of stride 2, one of a quarter two of
    them with a norm and GELU between, each halving the channels; coarser ones are max pooling. A
    1x1 and a 3x3 convolution, each with a norm, bring all to one width. There are no connections
    between levels: the ViT has seen the whole image already.

    Args:
        plain: the ViT; what is trained of it is its own matter.
        strides: of the levels, in pixels of the image; powers of two times the ViT's, up or down.
        channels: of every level.
        norm: "LN", over the channels of each pixel, or "GN", 32 groups of channels (or the largest
            power of two below that divides them).

    Raises:
        ConfigError: strides that do not fit the ViT's, or an unknown norm.
    """

    def __init__(
        self,
        plain: VisionTransformerBackbone,
        strides: Sequence[int],
        channels: int,
        norm: str = "LN",
    ) -> None:
        super().__init__()
        self.plain = plain
        shapes = plain.output_shape()
        width, base = shapes[plain.map_name].channels, shapes[plain.map_name].stride
        _check_strides(strides, base)
        self.levels = nn.ModuleDict(
            {f"s{stride}": _level(width, base, stride, channels, norm) for stride in strides}
        )
        self._out_features = [*self.levels, PLAIN]
        self._out_feature_channels = {**dict.fromkeys(self.levels, channels), PLAIN: width}
        self._out_feature_strides = {**{f"s{s}": s for s in strides}, PLAIN: base}
        if KEYS in shapes:
            self._out_features.append(KEYS)
            self._out_feature_channels[KEYS] = shapes[KEYS].channels
            self._out_feature_strides[KEYS] = base

    @property
    def vit(self) -> nn.Module:
        """timm's vision transformer."""
        return self.plain.vit

    @property
    def frozen(self) -> bool:
        """Whether no parameter of the ViT is trained; the levels always are."""
        return self.plain.frozen

    def token_maps(self, images: Tensor) -> dict[str, Tensor]:
        """See :meth:`VisionTransformerBackbone.token_maps`."""
        return self.plain.token_maps(images)

    def forward(
        self, images: Tensor, maps: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Normalised pixels ``[B, 3, H, W]`` to the levels and the ViT's own maps.

        Args:
            images: as the ViT takes them.
            maps: what :meth:`token_maps` gave for these images before; the ViT does not run then.

        Returns:
            ``s<stride>`` ``[B, channels, H / stride, W / stride]`` for every level; ``plain``, the
            ViT's map as it is, for losses that need a fixed target; and ``keys``, if it gives them.
        """
        maps = self.plain(images, maps)
        plain = maps[self.plain.map_name]
        features = {name: level(plain) for name, level in self.levels.items()}
        return {**features, PLAIN: plain, **{k: v for k, v in maps.items() if k == KEYS}}


@BACKBONE_REGISTRY.register()
def build_dinov2_fpn_backbone(
    cfg: CfgNode, input_shape: ShapeSpec | None = None
) -> VisionTransformerPyramid:
    """Build :class:`VisionTransformerPyramid` from ``MODEL.VIT`` and ``MODEL.VIT_FPN``.

    Raises:
        ConfigError, CheckpointError: see :func:`build_dinov2_backbone`; strides that do not fit.
    """
    node = cfg.MODEL.VIT_FPN
    return VisionTransformerPyramid(
        build_dinov2_backbone(cfg, input_shape), node.STRIDES, node.CHANNELS, node.NORM
    )


def _check_strides(strides: Sequence[int], base: int) -> None:
    wrong = [s for s in strides if s < 1 or not math.log2(base / s).is_integer()]
    if wrong or not strides or len(set(strides)) < len(strides):
        raise ConfigError(
            f"MODEL.VIT_FPN.STRIDES: {list(strides)}, but a token stands for {base} pixels; choose "
            f"different powers of two times that, such as {base}, or set MODEL.VIT.STRIDE to a "
            "power of two"
        )


def _level(width: int, base: int, stride: int, channels: int, norm: str) -> nn.Sequential:
    """From ``[B, width, h, w]`` at stride ``base`` to ``channels`` at ``stride``."""
    layers: list[nn.Module] = []
    steps = round(math.log2(base / stride))
    for step in range(steps):
        narrower = max(1, width // 2)
        layers.append(nn.ConvTranspose2d(width, narrower, 2, stride=2))
        if step < steps - 1:
            layers += [_norm(norm, narrower), nn.GELU()]
        width = narrower
    layers += [HalvedMap() for _ in range(-steps)]
    return nn.Sequential(
        *layers,
        nn.Conv2d(width, channels, 1, bias=False),
        _norm(norm, channels),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        _norm(norm, channels),
    )


def _norm(kind: str, channels: int) -> nn.Module:
    if kind == "LN":
        from timm.layers import LayerNorm2d

        return LayerNorm2d(channels)
    if kind == "GN":
        return nn.GroupNorm(math.gcd(32, channels), channels)
    raise ConfigError(f"MODEL.VIT_FPN.NORM: unknown norm {kind!r}; choose LN or GN")
