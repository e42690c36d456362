"""Two views of one image whose relation is known to the pixel, for a teacher and its student.

The teacher sees the *weak* view. The student sees a window of it, scaled, perhaps mirrored, with
other colours: the *strong* view. What the teacher finds can therefore be carried onto the student's
view exactly, without a second look at the file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from detectron2.config import CfgNode
from PIL import Image
from torch import Tensor

from slotseg.data.augmentation import PAD_VALUE
from slotseg.errors import ConfigError


@dataclass(frozen=True)
class ViewRelation:
    """How the strong view was made of the weak one.

    The window may reach over the edges of the weak image. Its pixels are then mapped to ``size``,
    as all resizing here: pixel centres to pixel centres, row i of the view lies at
    ``top + (i + 0.5) * height / size[0]`` of the weak image. Last, with ``flip``, left and right
    are exchanged.

    Attributes:
        top, left: corner of the window in pixels of the weak image; may be negative.
        height, width: of the window, likewise.
        flip: whether the view is mirrored left to right, after cutting.
        size: (height, width) of the view in pixels.
        weak_size: (height, width) of the weak image in pixels.
        content: (height, width) of the part of the weak image, at its top left, that is picture;
            what lies below and beside it is padding, which counts as outside.
    """

    top: int
    left: int
    height: int
    width: int
    flip: bool
    size: tuple[int, int]
    weak_size: tuple[int, int]
    content: tuple[int, int]

    def carry(self, values: Tensor, fill: float) -> Tensor:
        """Take a map of the weak image to the strong view: nearest at pixel centres.

        Args:
            values: ``[..., h, w]`` of any type and device, at ``weak_size``.
            fill: for what lies outside of the weak picture.

        Returns:
            ``[..., H, W]`` of ``size``, a tensor of its own.

        Raises:
            ValueError: ``values`` is of another size than the weak image.
        """
        if tuple(values.shape[-2:]) != tuple(self.weak_size):
            raise ValueError(
                f"a map of {tuple(values.shape[-2:])} pixels is not one of the weak image, which "
                f"has {tuple(self.weak_size)}"
            )
        rows, row_inside = self._sources(0, values.device)
        columns, column_inside = self._sources(1, values.device)
        carried = values.index_select(-2, rows).index_select(-1, columns)
        if self._within_picture:
            return carried
        return carried.masked_fill(~(row_inside[:, None] & column_inside), fill)

    def look(self, image: np.ndarray) -> np.ndarray:
        """The strong view's pixels, before their colours change.

        Args:
            image: the weak image, uint8 ``[h, w, C]`` with 1 or 3 channels.

        Returns:
            uint8 ``[H, W, C]``, interpolated bilinearly with antialiasing; what lies outside of the
            weak picture has the grey of padding.
        """
        window = self._window(image)
        if self.size != (self.height, self.width):
            grey = window.shape[2] == 1
            picture = Image.fromarray(np.ascontiguousarray(window[:, :, 0] if grey else window))
            resized = np.asarray(picture.resize(self.size[::-1], Image.BILINEAR))
            window = resized[:, :, None] if grey else resized
        return np.ascontiguousarray(window[:, ::-1] if self.flip else window)

    @property
    def _within_picture(self) -> bool:
        """Told without asking the device that the map is on."""
        bottom, right = self.top + self.height, self.left + self.width
        return min(self.top, self.left) >= 0 and (
            bottom <= self.content[0] and right <= self.content[1]
        )

    def _window(self, image: np.ndarray) -> np.ndarray:
        """The window ``[height, width, C]``, padded where it reaches over the picture."""
        top, left = max(self.top, 0), max(self.left, 0)
        # Of a window beside the picture nothing is left; a negative end would count from behind.
        bottom = max(min(self.top + self.height, self.content[0]), top)
        right = max(min(self.left + self.width, self.content[1]), left)
        part = image[top:bottom, left:right]
        if part.shape[:2] == (self.height, self.width):
            return part
        window = np.full((self.height, self.width, image.shape[2]), PAD_VALUE, image.dtype)
        row, column = top - self.top, left - self.left
        window[row : row + part.shape[0], column : column + part.shape[1]] = part
        return window

    def _sources(self, axis: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Of every row (axis 0) or column (1) of the view: the one of the weak image, int64, within
        it; and whether it really lies in the picture, bool."""
        first, length = ((self.top, self.height), (self.left, self.width))[axis]
        number = self.size[axis]
        # In whole numbers, so that no rounding decides which pixel a centre falls into.
        centres = 2 * torch.arange(number, device=device) + 1
        sources = first + torch.div(centres * length, 2 * number, rounding_mode="floor")
        if axis == 1 and self.flip:
            sources = sources.flip(0)
        edge = self.content[axis]
        return sources.clamp(0, edge - 1), (sources >= 0) & (sources < edge)


@dataclass(frozen=True)
class ViewSampler:
    """Draws relations, as ``SEMI.VIEW_SCALE`` and ``INPUT.RANDOM_FLIP`` describe them.

    Random numbers come from NumPy's global generator, as in all of Detectron2's augmentations.

    Attributes:
        scale: smallest and largest side of the window, as a factor of the weak image's.
        flip: whether every second view is mirrored.

    Raises:
        ConfigError: ``scale`` is no such pair.
    """

    scale: tuple[float, float] = (0.5, 1.0)
    flip: bool = False

    def __post_init__(self) -> None:
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            raise ConfigError(
                f"SEMI.VIEW_SCALE is {self.scale}, expected (smallest, largest) factor above 0"
            )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> ViewSampler:
        """The sampler that ``cfg`` describes."""
        return cls(tuple(cfg.SEMI.VIEW_SCALE), cfg.INPUT.RANDOM_FLIP == "horizontal")

    def draw(self, weak_size: tuple[int, int], content: tuple[int, int]) -> ViewRelation:
        """A window of the weak image's shape, whose view has the weak image's size.

        A window smaller than the picture lies inside of it; a larger one has all of it.

        Args:
            weak_size: (height, width) of the weak image in pixels.
            content: (height, width) of its part that is no padding.
        """
        # Always all four, so that one option does not change what the others draw.
        draws = np.random.uniform(0, 1, 4)
        factor = self.scale[0] + draws[0] * (self.scale[1] - self.scale[0])
        window = [max(round(edge * factor), 1) for edge in weak_size]
        corner = [
            _place(edge - length, draw)
            for edge, length, draw in zip(content, window, draws[1:3], strict=True)
        ]
        flip = self.flip and bool(draws[3] < 0.5)
        return ViewRelation(*corner, *window, flip, tuple(weak_size), tuple(weak_size), content)


def _place(slack: int, draw: float) -> int:
    """A whole number between 0 and ``slack``, which may be negative, both included."""
    return min(0, slack) + int(draw * (abs(slack) + 1))
