"""The encoder of Slot Attention: a plain stack of convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn

from slotseg.errors import ConfigError


class SimpleCNN(Backbone):
    """Convolutions with ReLU and no normalisation (Locatello et al. 2020, table 4).

    Args:
        in_channels: channels of the image.
        channels: output channels of each convolution.
        strides: stride of each convolution, as many as ``channels``.
        kernel_size: odd side of every kernel, in pixels.
    """

    def __init__(
        self, in_channels: int, channels: Sequence[int], strides: Sequence[int], kernel_size: int
    ) -> None:
        super().__init__()
        if len(channels) != len(strides) or not channels:
            raise ConfigError(
                f"MODEL.SIMPLE_CNN: {len(channels)} CHANNELS but {len(strides)} STRIDES; "
                "give one stride for each convolution"
            )
        layers: list[nn.Module] = []
        for width, stride in zip(channels, strides, strict=True):
            layers += [
                nn.Conv2d(in_channels, width, kernel_size, stride, padding=kernel_size // 2),
                nn.ReLU(inplace=True),
            ]
            in_channels = width
        self.layers = nn.Sequential(*layers)
        stride = math.prod(strides)
        self._out_features = [f"s{stride}"]
        self._out_feature_channels = {f"s{stride}": in_channels}
        self._out_feature_strides = {f"s{stride}": stride}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """``[B, C, H, W]`` normalised pixels to one map ``{"s<stride>": [B, C', H/s, W/s]}``."""
        return {self._out_features[0]: self.layers(images)}


@BACKBONE_REGISTRY.register()
def build_simple_cnn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> SimpleCNN:
    """Build :class:`SimpleCNN` from ``MODEL.SIMPLE_CNN``."""
    node = cfg.MODEL.SIMPLE_CNN
    return SimpleCNN(input_shape.channels, node.CHANNELS, node.STRIDES, node.KERNEL_SIZE)
