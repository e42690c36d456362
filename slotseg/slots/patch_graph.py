"""From the patches of an image to a graph: how much each belongs to each other one."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import Tensor

from slotseg.errors import ConfigError
from slotseg.ops.affinity import (
    color_affinity,
    cosine_affinity,
    power_affinity,
    threshold_affinity,
)

_AFFINITIES = ("cosine", "threshold", "power")


class PatchGraph:
    """Affinities between the pixels of a feature map, by its features and by colour.

    Args:
        affinity: "cosine", "threshold" or "power"; see :mod:`slotseg.ops.affinity`.
        threshold: of "threshold", a cosine in [-1, 1).
        power: of "power", above 0.
        center: subtract the image's mean from its features first. What all patches share says
            nothing about which belong together, but makes every cosine large.
        color_weight: weight of the affinity by colour and place, added to the other; 0: off.
        color_neighbors: nearest patches that each patch is joined to by colour, at least 1.
        max_tokens: larger maps are averaged down to at most this many pixels, at least 4.

    Raises:
        ConfigError: a value that is not one of these.
    """

    def __init__(
        self,
        *,
        affinity: str,
        threshold: float,
        power: float,
        center: bool,
        color_weight: float,
        color_neighbors: int,
        max_tokens: int,
    ) -> None:
        if affinity not in _AFFINITIES:
            raise ConfigError(
                f"MODEL.SLOTS.SPECTRAL.AFFINITY: {affinity!r} is not known; choose from "
                f"{', '.join(_AFFINITIES)}"
            )
        for key, value, good, wanted in (
            ("THRESHOLD", threshold, -1 <= threshold < 1, "a cosine in [-1, 1)"),
            ("POWER", power, power > 0, "a number above 0"),
            ("COLOR_WEIGHT", color_weight, color_weight >= 0, "a number from 0 on"),
            ("COLOR_NEIGHBORS", color_neighbors, color_neighbors >= 1, "at least 1"),
            ("MAX_TOKENS", max_tokens, max_tokens >= 4, "at least 4"),
        ):
            if not good:
                raise ConfigError(f"MODEL.SLOTS.SPECTRAL.{key} is {value}; give {wanted}")
        self.affinity = affinity
        self.threshold = threshold
        self.power = power
        self.center = center
        self.color_weight = color_weight
        self.color_neighbors = color_neighbors
        self.max_tokens = max_tokens

    @classmethod
    def from_config(cls, cfg: CfgNode) -> PatchGraph:
        """Read ``MODEL.SLOTS.SPECTRAL``."""
        options = cfg.MODEL.SLOTS.SPECTRAL
        return cls(
            affinity=options.AFFINITY,
            threshold=options.THRESHOLD,
            power=options.POWER,
            center=options.CENTER,
            color_weight=options.COLOR_WEIGHT,
            color_neighbors=options.COLOR_NEIGHBORS,
            max_tokens=options.MAX_TOKENS,
        )

    @torch.no_grad()
    def __call__(self, features: Tensor, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Affinities of a feature map ``[B, C, h, w]`` of ``images`` ``[B, 3, H, W]``.

        Returns:
            ``[B, N, N]`` float32, symmetric, not negative and finite, and the (height, width) of
            the N patches. What is not a number in the features counts as zero here: it is for the
            loss to be refused over it.
        """
        with torch.autocast(features.device.type, enabled=False):
            features = torch.nan_to_num(features.float(), posinf=0.0, neginf=0.0)
            grid = _pooled_size(tuple(features.shape[-2:]), self.max_tokens)
            patches = F.adaptive_avg_pool2d(features, grid).flatten(2).mT
            if self.center:
                patches = patches - patches.mean(dim=1, keepdim=True)
            affinity = self._by_features(patches)
            if self.color_weight > 0:
                colors = F.adaptive_avg_pool2d(_unit_range(images.float()), grid).flatten(2).mT
                affinity += self.color_weight * color_affinity(colors, grid, self.color_neighbors)
            return affinity, grid

    def _by_features(self, patches: Tensor) -> Tensor:
        if self.affinity == "threshold":
            return threshold_affinity(patches, self.threshold)
        if self.affinity == "power":
            return power_affinity(patches, self.power)
        return cosine_affinity(patches)


def _pooled_size(size: tuple[int, int], most: int) -> tuple[int, int]:
    """``size`` shrunk in proportion to at most ``most`` pixels; sides of at least 1."""
    height, width = size
    if height * width <= most:
        return height, width
    shrink = math.sqrt(most / (height * width))
    # Of a very flat map, the short side cannot shrink below 1: the long one has to.
    rows = min(max(1, int(height * shrink)), most)
    return rows, min(max(1, int(width * shrink)), most // rows)


def _unit_range(images: Tensor) -> Tensor:
    """Normalised images with the values of each spread over [0, 1], whatever the normalisation."""
    lowest, highest = torch.aminmax(images.flatten(1), dim=1, keepdim=True)
    spread = (highest - lowest).clamp_min(torch.finfo(images.dtype).eps)
    scaled = (images.flatten(1) - lowest) / spread
    return torch.nan_to_num(scaled).unflatten(1, images.shape[1:])
