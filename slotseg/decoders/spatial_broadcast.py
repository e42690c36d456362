"""The spatial broadcast decoder."""

from __future__ import annotations

from collections.abc import Sequence

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from slotseg.decoders.build import DECODER_REGISTRY
from slotseg.decoders.decoded import Decoded
from slotseg.errors import ConfigError
from slotseg.slots.position import SoftPosition
from slotseg.slots.state import SlotState


@DECODER_REGISTRY.register()
class SpatialBroadcastDecoder(nn.Module):
    """Repeats each slot over a grid and upsamples it to colours and a mask logit.

    Watters et al. 2019 with the transposed convolutions of Locatello et al. 2020, table 5: the
    image is the sum of the slots' colours weighted by the softmax of their mask logits.

    Args:
        dim: length D of a slot.
        resolution: (height, width) of the grid.
        channels: output channels of each transposed convolution.
        strides: stride of each transposed convolution; the output is larger than the grid by
            their product.
        kernel_size: odd side of their kernels, in pixels.
    """

    makes_masks = True
    makes_reconstruction = True

    @configurable
    def __init__(
        self,
        *,
        dim: int,
        resolution: tuple[int, int],
        channels: Sequence[int],
        strides: Sequence[int],
        kernel_size: int,
    ) -> None:
        super().__init__()
        if len(channels) != len(strides) or not channels:
            raise ConfigError(
                f"MODEL.SPATIAL_BROADCAST: {len(channels)} CHANNELS but {len(strides)} STRIDES; "
                "give one stride for each transposed convolution"
            )
        self.resolution = tuple(resolution)
        self.position = SoftPosition(dim)
        layers: list[nn.Module] = []
        for width, stride in zip(channels, strides, strict=True):
            layers += [
                nn.ConvTranspose2d(
                    dim,
                    width,
                    kernel_size,
                    stride,
                    padding=kernel_size // 2,
                    output_padding=stride - 1,
                ),
                nn.ReLU(inplace=True),
            ]
            dim = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(dim, 4, 3, padding=1))

    @classmethod
    def from_config(cls, cfg: CfgNode, backbone_shape: dict[str, ShapeSpec]) -> dict:
        """Read ``MODEL.SPATIAL_BROADCAST``."""
        node = cfg.MODEL.SPATIAL_BROADCAST
        return {
            "dim": cfg.MODEL.SLOTS.DIM,
            "resolution": node.RESOLUTION,
            "channels": node.CHANNELS,
            "strides": node.STRIDES,
            "kernel_size": node.KERNEL_SIZE,
        }

    def forward(self, slots: SlotState, features: dict[str, Tensor], images: Tensor) -> Decoded:
        """Slots ``[B, K, D]`` to masks and an image of grid times strides pixels."""
        batch, num_slots, dim = slots.slots.shape
        grid = slots.slots.reshape(batch * num_slots, dim, 1, 1).expand(-1, -1, *self.resolution)
        out = self.layers(self.position(grid)).float().unflatten(0, (batch, num_slots))
        colours, mask_logits = out[:, :, :3], out[:, :, 3]
        reconstruction = (mask_logits.softmax(dim=1).unsqueeze(2) * colours).sum(dim=1)
        return Decoded(mask_logits, reconstruction)
