"""Other views of the training images, for losses that compare two of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, order=True)
class ViewSpec:
    """How a view is made of the images; a loss lists those it needs as its attribute ``views``.

    Attributes:
        scale: factor on height and width.
        flip: mirrored left to right.
    """

    scale: float = 1.0
    flip: bool = False

    def images(self, images: Tensor, divisor: int = 1) -> Tensor:
        """The view of ``[B, 3, H, W]``, its sides rounded to multiples of ``divisor``."""
        if self.flip:
            images = images.flip(-1)
        if self.scale == 1.0:
            return images
        size = [max(round(side * self.scale / divisor), 1) * divisor for side in images.shape[-2:]]
        return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)

    def back(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Maps ``[B, C, h, w]`` of the view as maps ``[B, C, *size]`` of the images."""
        if self.flip:
            maps = maps.flip(-1)
        return F.interpolate(maps, size, mode="bilinear", align_corners=False)
