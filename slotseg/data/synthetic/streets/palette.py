"""Colours, shared on purpose: no class can be told by its colour alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from slotseg.data.synthetic.streets.scene import Color

_T = TypeVar("_T")

#: Anything painted or dyed: cars, clothes, shop fronts, doors, bins, trams.
PAINTS: tuple[Color, ...] = (
    (0.07, 0.07, 0.08),
    (0.13, 0.13, 0.15),
    (0.22, 0.23, 0.25),
    (0.36, 0.37, 0.39),
    (0.52, 0.53, 0.54),
    (0.68, 0.69, 0.70),
    (0.84, 0.84, 0.83),
    (0.62, 0.12, 0.11),
    (0.42, 0.10, 0.12),
    (0.13, 0.20, 0.42),
    (0.18, 0.33, 0.58),
    (0.45, 0.56, 0.66),
    (0.14, 0.28, 0.19),
    (0.30, 0.38, 0.24),
    (0.78, 0.62, 0.14),
    (0.76, 0.40, 0.13),
    (0.46, 0.36, 0.27),
    (0.62, 0.55, 0.44),
    (0.40, 0.24, 0.36),
)
#: Masonry and plaster: buildings, walls, some pavements.
MASONRY: tuple[Color, ...] = (
    (0.76, 0.73, 0.66),
    (0.70, 0.63, 0.50),
    (0.62, 0.60, 0.57),
    (0.52, 0.50, 0.48),
    (0.43, 0.41, 0.40),
    (0.56, 0.38, 0.30),
    (0.48, 0.29, 0.23),
    (0.66, 0.52, 0.42),
    (0.80, 0.78, 0.75),
    (0.58, 0.61, 0.62),
    (0.50, 0.54, 0.47),
    (0.68, 0.58, 0.56),
    (0.38, 0.34, 0.32),
)
#: Leaves, grass, hedges and bare earth.
PLANTS: tuple[Color, ...] = (
    (0.26, 0.36, 0.17),
    (0.20, 0.30, 0.15),
    (0.34, 0.42, 0.20),
    (0.17, 0.24, 0.14),
    (0.40, 0.43, 0.22),
    (0.46, 0.40, 0.20),
    (0.50, 0.36, 0.17),
    (0.36, 0.30, 0.22),
    (0.30, 0.31, 0.24),
)
SKIN: tuple[Color, ...] = (
    (0.82, 0.64, 0.53),
    (0.73, 0.54, 0.42),
    (0.56, 0.39, 0.28),
    (0.38, 0.26, 0.19),
)
HAIR: tuple[Color, ...] = ((0.10, 0.08, 0.07), (0.28, 0.19, 0.12), (0.55, 0.44, 0.27), (0.5,) * 3)
METALS: tuple[Color, ...] = (
    (0.44, 0.45, 0.46),
    (0.30, 0.31, 0.32),
    (0.17, 0.18, 0.19),
    (0.55, 0.56, 0.56),
    (0.24, 0.30, 0.26),
)
GLASS: tuple[Color, ...] = ((0.10, 0.12, 0.14), (0.16, 0.19, 0.22), (0.28, 0.33, 0.37))


def pick(rng: np.random.Generator, values: Sequence[_T]) -> _T:
    """One of ``values``."""
    return values[int(rng.random() * len(values))]


def paint(rng: np.random.Generator, palette: Sequence[Color], spread: float = 0.04) -> Color:
    """A colour of a palette, varied in brightness and hue."""
    base = pick(rng, palette)
    factor = 1 + 3 * spread * (rng.random() - 0.5) * 2
    shifts = (rng.random(3) - 0.5) * 2 * spread
    red, green, blue = np.clip(np.array(base) * factor + shifts, 0.02, 0.97).tolist()
    return (red, green, blue)
