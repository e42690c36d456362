"""Which patches of which images: CutMix and mosaic."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from slotseg.data.mixing.compose import Box, Patch, Source, compose
from slotseg.data.mixing.segments import Remains
from slotseg.errors import ConfigError, DatasetError

Size = tuple[int, int]


class Mix(ABC):
    """Makes images of a batch into images of several of them.

    Args:
        remains: what is too little to stay a segment.
    """

    def __init__(self, remains: Remains) -> None:
        self.remains = remains

    def __call__(
        self,
        dicts: Sequence[dict[str, Any]],
        rng: np.random.Generator,
        probability: float = 1.0,
    ) -> list[dict[str, Any]]:
        """Mix a batch.

        What is drawn for an image does not depend on ``probability``, but for whether it is used.

        Args:
            dicts: mapped images with truth, of equal size; they and their tensors are not changed.
            rng: the only source of randomness.
            probability: share of the images that are mixed.

        Returns:
            As many images, in their order, see :func:`slotseg.data.mixing.compose.compose`; those
            that are not mixed are the same dicts. A single image is never mixed.

        Raises:
            ConfigError: images of different sizes.
            DatasetError: images without truth, or only some of them with classes.
        """
        dicts = list(dicts)
        if len(dicts) < 2:
            return dicts
        size = _common_size(dicts)
        chosen = rng.random(len(dicts)) < probability
        plans = [self.plan(image, len(dicts), size, rng) for image in range(len(dicts))]
        sources = [Source(sample) for sample in dicts]
        return [
            compose(sources, plan, self.remains) if is_chosen and plan else own
            for own, plan, is_chosen in zip(dicts, plans, chosen, strict=True)
        ]

    @abstractmethod
    def plan(
        self, image: int, num_images: int, size: Size, rng: np.random.Generator
    ) -> list[Patch]:
        """The patches that image number ``image`` of a batch is made of; empty: it stays.

        Args:
            image: a number below ``num_images``.
            num_images: at least 2.
            size: (height, width) of all images, in pixels.
            rng: to draw from.
        """


class CutMix(Mix):
    """A box of another image of the batch, at the same place (Yun et al. 2019).

    Lambda is drawn from Beta(alpha, alpha), and sqrt(1 - lambda) is the box's share of height and
    of width (their eq. 2), rounded to pixels. It lies anywhere inside the image, so that its area
    is the one that was drawn, where the authors' own code cuts it off at the border. Every image
    has a lambda, a box and a partner of its own.

    Args:
        alpha: above 0.
        remains: what is too little to stay a segment.
    """

    def __init__(self, alpha: float, remains: Remains) -> None:
        super().__init__(remains)
        if not 0 < alpha < math.inf:
            raise ConfigError(f"MIXING.CUTMIX.ALPHA is {alpha}, it must be above 0")
        self.alpha = alpha

    def plan(
        self, image: int, num_images: int, size: Size, rng: np.random.Generator
    ) -> list[Patch]:
        """The whole image, and on it the box of its partner; see :meth:`Mix.plan`."""
        partner = _others(image, num_images)[rng.integers(num_images - 1)]
        side = math.sqrt(1 - rng.beta(self.alpha, self.alpha))
        height, width = (round(edge * side) for edge in size)
        top, left = (
            int(rng.integers(edge - length + 1))
            for edge, length in zip(size, (height, width), strict=True)
        )
        if not height or not width:
            return []
        return [
            Patch(image, (0, 0, *size), (0, 0, *size)),
            Patch(partner, (top, left, height, width), (top, left, height, width)),
        ]


class Mosaic(Mix):
    """Four images that meet at a random point (Bochkovskiy et al. 2020).

    A random window of each fills its quarter, shrunk by a random factor, its shape kept.
    One of the four is the image itself, in a random quarter; the others are different ones as far
    as the batch has so many.

    Args:
        center: smallest and largest share of height and width at which the point lies, between 0
            and 1, both excluded.
        scale: smallest and largest factor, above 0 and at most 1. One whose window would not fit
            into the image is raised to where it does.
        remains: what is too little to stay a segment.
    """

    def __init__(
        self, center: tuple[float, float], scale: tuple[float, float], remains: Remains
    ) -> None:
        super().__init__(remains)
        if len(center) != 2 or not 0 < center[0] <= center[1] < 1:
            raise ConfigError(
                f"MIXING.MOSAIC.CENTER is {tuple(center)}, expected two shares of the image in "
                "ascending order, above 0 and below 1"
            )
        if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
            raise ConfigError(
                f"MIXING.MOSAIC.SCALE is {tuple(scale)}, expected two factors in ascending order, "
                "above 0 and at most 1"
            )
        self.center = tuple(center)
        self.scale = tuple(scale)

    def plan(
        self, image: int, num_images: int, size: Size, rng: np.random.Generator
    ) -> list[Patch]:
        """The four quarters, the image's own first; see :meth:`Mix.plan`."""
        # Two pixels at least: no quarter is empty.
        row, column = (
            min(max(round(edge * rng.uniform(*self.center)), 1), edge - 1) for edge in size
        )
        heights, widths = (row, size[0] - row), (column, size[1] - column)
        boxes = [
            (row * below, column * beside, heights[below], widths[beside])
            for below in (0, 1)
            for beside in (0, 1)
        ]
        others = rng.permutation(_others(image, num_images))
        sources = [image, *(int(others[i % len(others)]) for i in range(3))]
        return [
            self._quarter(source, boxes[place], size, rng)
            for source, place in zip(sources, rng.permutation(4), strict=True)
        ]

    def _quarter(self, source: int, box: Box, size: Size, rng: np.random.Generator) -> Patch:
        least = max(box[2] / size[0], box[3] / size[1])
        factor = rng.uniform(*(max(bound, least) for bound in self.scale))
        window = tuple(
            min(round(length / factor), edge) for edge, length in zip(size, box[2:], strict=True)
        )
        top, left = (
            int(rng.integers(edge - length + 1)) for edge, length in zip(size, window, strict=True)
        )
        return Patch(source, (top, left, *window), box)


def _others(image: int, num_images: int) -> list[int]:
    return [number for number in range(num_images) if number != image]


def _common_size(dicts: Sequence[dict[str, Any]]) -> Size:
    """(height, width) of all images.

    Raises:
        ConfigError: they differ, or are smaller than two pixels each way.
        DatasetError: an image has no truth.
    """
    shape = tuple(dicts[0]["image"].shape)
    for sample in dicts:
        name = sample.get("file_name", "an image")
        if "segment_map" not in sample:
            raise DatasetError(
                f"{name}: has no segments that could be mixed; set MIXING.CUTMIX.PROBABILITY and "
                "MIXING.MOSAIC.PROBABILITY to 0, or train on sets with masks"
            )
        if tuple(sample["image"].shape) != shape:
            raise ConfigError(
                f"{name}: is {_in_words(sample['image'].shape)} and others of its batch are "
                f"{_in_words(shape)}, but MIXING takes images of one size; set INPUT.RESIZE to "
                '"fixed" or "scale_jitter", or switch MIXING off'
            )
    if min(shape[1:]) < 2:
        raise ConfigError(
            f"INPUT.IMAGE_SIZE: images of {_in_words(shape)} are too small for MIXING; make them "
            "larger or switch it off"
        )
    return shape[1], shape[2]


def _in_words(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[2]} (height x width)"
