"""The augmentation chain that ``cfg.INPUT`` describes, as Detectron2 transforms.

In this order: crop, resize, colours, flip, padding. Everything random is drawn from NumPy's global
generator, as in all of Detectron2's augmentations; the training loader seeds it for every sample.
Every geometric transform moves coordinates too and has an inverse, so predictions on an augmented
image can be brought back.

Segment maps go through as unsigned numbers whose 0 is void, which is what padding adds.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from fvcore.transforms.transform import PadTransform
from PIL import Image
from torch.nn import functional

from slotseg.data.colors import color_augmentation
from slotseg.errors import ConfigError

RESIZES = ("fixed", "shortest_edge", "scale_jitter")
"""What ``INPUT.RESIZE`` may be."""
FLIPS = ("none", "horizontal")
"""What ``INPUT.RANDOM_FLIP`` may be."""
_CROPS = ("relative", "relative_range", "absolute", "absolute_range")
# A window is computed alone where the whole result has more than this many times its pixels.
_SMALL_WINDOW = 4
PAD_VALUE = 128
"""Grey of padded pixels; near the mean of photographs."""


def build_augmentations(cfg: CfgNode, is_train: bool, colors: bool = True) -> list[T.Augmentation]:
    """The chain of ``cfg.INPUT``; its keys are documented in :mod:`slotseg.config`.

    Args:
        cfg: whole config.
        is_train: False resizes only.
        colors: False leaves colours as they are: a teacher's view in training.

    Raises:
        ConfigError: a key holds what cannot work; also those that only training reads, so that
            an evaluation does not accept what a training will refuse.
    """
    resize = _training_resize(cfg)
    color, flips = color_augmentation(cfg), flip_augmentation(cfg.INPUT.RANDOM_FLIP)
    if not is_train:
        return [_evaluation_resize(cfg)]
    padding = [PadTo(image_size(cfg))] if cfg.INPUT.RESIZE == "scale_jitter" else []
    return [*resize, *(color if colors else []), *flips, *padding]


def image_size(cfg: CfgNode) -> tuple[int, int]:
    """``INPUT.IMAGE_SIZE``, checked: (height, width) in pixels."""
    return check_size(cfg.INPUT.IMAGE_SIZE)


def check_size(size: Sequence[int]) -> tuple[int, int]:
    """(height, width) if ``size`` is one, else a ConfigError that names the key."""
    if len(size) != 2 or not all(isinstance(edge, int) and edge > 0 for edge in size):
        raise ConfigError(f"INPUT.IMAGE_SIZE is {size}, expected (height, width) in pixels")
    return size[0], size[1]


def flip_augmentation(random_flip: str) -> list[T.Augmentation]:
    """``INPUT.RANDOM_FLIP`` as at most one augmentation."""
    if random_flip not in FLIPS:
        raise ConfigError(
            f"INPUT.RANDOM_FLIP is {random_flip!r}, expected one of {', '.join(FLIPS)}"
        )
    return [] if random_flip == "none" else [T.RandomFlip(horizontal=True, vertical=False)]


class ResizeAndCrop(T.Augmentation):
    """One of Detectron2's resizes, then one of its random windows, as one transform.

    Enlarging an image to cut a piece out of it costs little more than the piece.

    Args:
        resize: whose ``get_transform`` gives the new size; None keeps the size.
        crop: whose ``get_crop_size`` gives the window's; None takes all.
    """

    def __init__(
        self, resize: T.Augmentation | None = None, crop: T.RandomCrop | None = None
    ) -> None:
        super().__init__()
        self.resize = resize
        self.crop = crop

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Draw a size and a window for ``image`` ``[H, W, C]``."""
        size = image.shape[:2]
        resized = self.resize.get_transform(image) if self.resize else None
        # For a shortest edge of 0 Detectron2 returns a transform that does nothing.
        new_size = (
            (max(int(resized.new_h), 1), max(int(resized.new_w), 1))
            if isinstance(resized, T.ResizeTransform)
            else size
        )
        if self.crop is None:
            return WindowedResizeTransform(size, new_size, (0, 0), new_size)
        height, width = (max(1, edge) for edge in self.crop.get_crop_size(new_size))
        top = np.random.randint(new_size[0] - height + 1)
        left = np.random.randint(new_size[1] - width + 1)
        return WindowedResizeTransform(size, new_size, (top, left), (height, width))


class WindowedResizeTransform(T.Transform):
    """Resize to ``new_size``, then keep a window.

    Images are interpolated bilinearly with antialiasing, as Detectron2's ``ResizeTransform`` does
    to a grey level; maps take the value at the centre of each new pixel. Both see the same geometry
    to a hundredth of a pixel.

    Args:
        size: (height, width) of what comes in.
        new_size: (height, width) it is resized to.
        corner: (top, left) of the window.
        window: (height, width) of the window.
    """

    def __init__(
        self,
        size: tuple[int, int],
        new_size: tuple[int, int],
        corner: tuple[int, int],
        window: tuple[int, int],
    ) -> None:
        super().__init__()
        self._set_attributes(
            {"size": size, "new_size": new_size, "corner": corner, "window": window}
        )

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """uint8 ``[H, W, C]`` with 1 or 3 channels."""
        if self._is_crop:
            return self._cut(img)
        if math.prod(self.window) * _SMALL_WINDOW < math.prod(self.new_size):
            return self._resize_window(img)
        return self._cut(self._resize_all(img))

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Integers ``[H, W]`` of any type."""
        if self._is_crop:
            return self._cut(segmentation)
        rows, columns = (
            ((np.arange(first, first + length) + 0.5) / scale).astype(np.intp).clip(max=edge - 1)
            for first, length, scale, edge in zip(
                self.corner, self.window, self._scale, self.size, strict=True
            )
        )
        return segmentation.take(rows, axis=0).take(columns, axis=1)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Points float ``[N, 2]`` (x, y) in pixels."""
        return coords * self._scale[::-1] - np.asarray(self.corner[::-1])

    def inverse(self) -> T.Transform:
        """Pad the window back (with zeros, void in maps), then resize back."""
        (top, left), (height, width) = self.corner, self.window
        below, beside = self.new_size[0] - top - height, self.new_size[1] - left - width
        pad = PadTransform(left, top, beside, below, width, height)
        back = WindowedResizeTransform(self.new_size, self.size, (0, 0), self.size)
        return T.TransformList([pad, back])

    def _resize_all(self, img: np.ndarray) -> np.ndarray:
        # On 8 bits torch is four to six times as fast as Pillow, and equal to one grey level.
        with warnings.catch_warnings():
            # Decoded files cannot be written to; nobody does.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            planes = torch.from_numpy(np.ascontiguousarray(img)).permute(2, 0, 1)[None]
        resized = functional.interpolate(planes, self.new_size, mode="bilinear", antialias=True)
        return resized[0].permute(1, 2, 0).numpy()

    def _resize_window(self, img: np.ndarray) -> np.ndarray:
        # Pillow computes any part of the result without the rest.
        scale = self._scale
        top, left = self.corner[0] / scale[0], self.corner[1] / scale[1]
        bottom = (self.corner[0] + self.window[0]) / scale[0]
        right = (self.corner[1] + self.window[1]) / scale[1]
        # Rounding must not carry the window over the edge; Pillow refuses that.
        box = (left, top, min(right, self.size[1]), min(bottom, self.size[0]))
        grey = img.shape[2] == 1
        picture = Image.fromarray(np.ascontiguousarray(img[:, :, 0] if grey else img))
        resized = np.asarray(picture.resize(self.window[::-1], Image.BILINEAR, box=box))
        return resized[:, :, None] if grey else resized

    @property
    def _scale(self) -> tuple[float, float]:
        return self.new_size[0] / self.size[0], self.new_size[1] / self.size[1]

    @property
    def _is_crop(self) -> bool:
        return self.size == self.new_size

    def _cut(self, array: np.ndarray) -> np.ndarray:
        (top, left), (height, width) = self.corner, self.window
        return array[top : top + height, left : left + width]


class PadTo(T.Augmentation):
    """Pad at the bottom and right to a size: images with grey, maps with void.

    Args:
        size: (height, width) in pixels.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """What ``image`` ``[H, W, C]`` lacks."""
        height, width = image.shape[:2]
        below, beside = max(self.size[0] - height, 0), max(self.size[1] - width, 0)
        if not below and not beside:
            return T.NoOpTransform()
        return PadTransform(0, 0, beside, below, width, height, pad_value=PAD_VALUE)


def _training_resize(cfg: CfgNode) -> list[T.Augmentation]:
    """Crop and resize; where the crop comes is said in the config's documentation."""
    crop = _random_crop(cfg)
    if cfg.INPUT.RESIZE == "fixed":
        first = [ResizeAndCrop(crop=crop)] if crop else []
        return [*first, ResizeAndCrop(T.Resize(image_size(cfg)))]
    if cfg.INPUT.RESIZE == "shortest_edge":
        return [ResizeAndCrop(_shortest_edge(cfg), crop)]
    if cfg.INPUT.RESIZE == "scale_jitter":
        if crop:
            raise ConfigError(
                'INPUT.CROP.ENABLED is True, but INPUT.RESIZE "scale_jitter" crops to '
                "INPUT.IMAGE_SIZE by itself; switch one of them off"
            )
        height, width = image_size(cfg)
        low, high = _scale_range(cfg)
        window = T.RandomCrop("absolute", (height, width))
        return [ResizeAndCrop(T.ResizeScale(low, high, height, width), window)]
    raise ConfigError(f"INPUT.RESIZE is {cfg.INPUT.RESIZE!r}, expected one of {', '.join(RESIZES)}")


def _evaluation_resize(cfg: CfgNode) -> T.Augmentation:
    if cfg.INPUT.RESIZE == "fixed":
        return ResizeAndCrop(T.Resize(image_size(cfg)))
    if cfg.INPUT.RESIZE == "shortest_edge":
        edge, longest = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
        _check_edges("TEST", [edge], longest, smallest=0)
        return ResizeAndCrop(T.ResizeShortestEdge([edge, edge], longest, "range"))
    # The largest size of the same shape that fits, which is what a factor of 1 means in training.
    height, width = image_size(cfg)
    return ResizeAndCrop(T.ResizeScale(1.0, 1.0, height, width))


def _shortest_edge(cfg: CfgNode) -> T.Augmentation:
    edges = cfg.INPUT.MIN_SIZE_TRAIN
    edges = [edges] if isinstance(edges, int) else list(edges)
    style, longest = cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING, cfg.INPUT.MAX_SIZE_TRAIN
    _check_edges("TRAIN", edges, longest, smallest=1)
    if style not in ("choice", "range") or (style == "range" and len(edges) != 2):
        raise ConfigError(
            f"INPUT.MIN_SIZE_TRAIN_SAMPLING is {style!r} with {len(edges)} sizes in "
            'INPUT.MIN_SIZE_TRAIN; expected "choice", or "range" with (smallest, largest)'
        )
    return T.ResizeShortestEdge(edges, longest, style)


def _check_edges(phase: str, edges: Sequence[int], longest: int, smallest: int) -> None:
    if not edges or not all(isinstance(edge, int) and edge >= smallest for edge in edges):
        raise ConfigError(
            f"INPUT.MIN_SIZE_{phase} is {edges}, expected pixels, {smallest} or more each"
        )
    if longest < 1:
        raise ConfigError(f"INPUT.MAX_SIZE_{phase} is {longest}, expected pixels, 1 or more")


def _scale_range(cfg: CfgNode) -> tuple[float, float]:
    factors = tuple(cfg.INPUT.SCALE_JITTER)
    if len(factors) != 2 or not 0 < factors[0] <= factors[1]:
        raise ConfigError(
            f"INPUT.SCALE_JITTER is {factors}, expected (smallest, largest) factor above 0"
        )
    return factors[0], factors[1]


def _random_crop(cfg: CfgNode) -> T.RandomCrop | None:
    """Detectron2's ``INPUT.CROP``, or None where it is off."""
    if not cfg.INPUT.CROP.ENABLED:
        return None
    kind, size = cfg.INPUT.CROP.TYPE, tuple(cfg.INPUT.CROP.SIZE)
    if kind not in _CROPS:
        raise ConfigError(f"INPUT.CROP.TYPE is {kind!r}, expected one of {', '.join(_CROPS)}")
    relative = kind.startswith("relative")
    fits = len(size) == 2 and all(
        0 < edge <= 1 if relative else isinstance(edge, int) and edge > 0 for edge in size
    )
    if not fits or (kind == "absolute_range" and size[0] > size[1]):
        expected = "two shares of the image, above 0 and at most 1" if relative else "two pixels"
        expected += " in ascending order" if kind == "absolute_range" else ""
        raise ConfigError(f"INPUT.CROP.SIZE is {size}, but {kind!r} takes {expected}")
    return T.RandomCrop(kind, size)
