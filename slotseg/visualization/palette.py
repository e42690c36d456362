"""Colours that stay apart: the same segment number has the same colour in every picture."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

# Neutral, so that it is never mistaken for a segment.
BACKGROUND = (92, 96, 105)
VOID = (0, 0, 0)

# Linear RGB -> LMS -> OKLab (Ottosson, "A perceptual color space for image processing", 2020).
_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


@lru_cache(maxsize=8)
def _palette(count: int) -> bytes:
    """Colours one after another, each as far as possible (OKLab) from all before and from grey."""
    steps = np.linspace(0, 255, 18).round()
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _oklab(grid)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    # Not so dark, pale, glaring or grey that segments run together or hide the image.
    usable = (lab[:, 0] > 0.50) & (lab[:, 0] < 0.86) & (chroma > 0.09) & (chroma < 0.21)
    grid, lab = grid[usable], lab[usable]
    distance = np.linalg.norm(lab - _oklab(np.array([BACKGROUND])), axis=1)
    chosen = [int(np.argmin(np.linalg.norm(grid - (60, 120, 240), axis=1)))]
    for _ in range(count - 1):
        distance = np.minimum(distance, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    return grid[chosen].astype(np.uint8).tobytes()


def segment_colors(count: int) -> np.ndarray:
    """The first ``count`` colours, the same whatever ``count`` is.

    Returns:
        uint8 ``[count, 3]``, RGB.
    """
    longest = max(32, count)
    return np.frombuffer(_palette(longest), np.uint8).reshape(-1, 3)[:count].copy()


def instance_shade(color: np.ndarray, number: int) -> np.ndarray:
    """A shade of a class's colour for its instance ``number``: the first as it is, then lighter
    and darker by turns, so that neighbours differ and the class can still be told.

    Args:
        color: RGB in 0..255.
        number: from 0.

    Returns:
        float64 RGB in 0..255.
    """
    # Equidistribution of multiples of the golden ratio (Weyl): no two of the first hundred agree.
    position = (number * 0.6180339887498949) % 1.0
    towards, share = (255.0, position) if position <= 0.5 else (0.0, 1.0 - position)
    color = np.asarray(color, np.float64)
    return color + 0.9 * share * (towards - color)


def _oklab(rgb: np.ndarray) -> np.ndarray:
    """OKLab coordinates of 8-bit sRGB colours ``[N, 3]``."""
    value = np.asarray(rgb, np.float64) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ _TO_LMS.T) @ _TO_LAB.T
