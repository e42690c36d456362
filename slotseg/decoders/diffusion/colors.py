"""Between a model's normalised images and the RGB in [-1, 1] of autoencoders."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from slotseg.errors import ConfigError

_MIDDLE = 127.5


def flips_channels(image_format: str) -> bool:
    """Whether a channel order is BGR.

    Raises:
        ConfigError: it is neither RGB nor BGR.
    """
    if image_format not in ("RGB", "BGR"):
        raise ConfigError(f"INPUT.FORMAT {image_format!r}: autoencoders of images want RGB or BGR")
    return image_format == "BGR"


class ColorSpace(nn.Module):
    """How a model normalises its images.

    Args:
        pixel_mean, pixel_std: in 0..255 and in the order of ``image_format``.
        image_format: "RGB" or "BGR".
    """

    def __init__(
        self, pixel_mean: Sequence[float], pixel_std: Sequence[float], image_format: str
    ) -> None:
        super().__init__()
        self.flips = flips_channels(image_format)
        self.register_buffer("mean", torch.tensor(list(pixel_mean)).view(-1, 1, 1), False)
        self.register_buffer("std", torch.tensor(list(pixel_std)).view(-1, 1, 1), False)

    def to_rgb(self, images: Tensor) -> Tensor:
        """Normalised ``[B, 3, H, W]`` to RGB in [-1, 1]."""
        rgb = (images * self.std + self.mean - _MIDDLE) / _MIDDLE
        return rgb.flip(1) if self.flips else rgb

    def from_rgb(self, rgb: Tensor) -> Tensor:
        """RGB in [-1, 1] to normalised ``[B, 3, H, W]``."""
        images = rgb.flip(1) if self.flips else rgb
        return (images * _MIDDLE + _MIDDLE - self.mean) / self.std
