"""What a street scene consists of, before any pixel is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from slotseg.data.synthetic.streets.camera import StreetCamera

Color = tuple[float, float, float]
#: Ground plan of an item: left, right, near and far end in road coordinates, metres.
Box = tuple[float, float, float, float]


class Surface(IntEnum):
    """How depth varies over a face, which fog and texture follow."""

    UPRIGHT = 0  # one depth
    FACADE = 1  # vertical plane, depth varies along the row
    GROUND = 2
    SKY = 3


class Texture(IntEnum):
    """Pattern that varies a face's brightness."""

    NONE = 0
    ASPHALT = 1
    PLASTER = 2
    BRICK = 3
    PLANKS = 4
    PAVING = 5
    LEAVES = 6
    GRASS = 7
    CLOTH = 8
    CLOUDS = 9
    BARS = 10
    PAINT = 11


class Face(NamedTuple):
    """Polygons of one colour.

    Attributes:
        points: float64 [K, n, 3], K polygons of n corners in road coordinates. They must not
            overlap in the picture.
        color: display values 0..1, light already applied.
        texture: what varies them.
        surface: how their depth varies.
    """

    points: np.ndarray
    color: Color
    texture: Texture = Texture.NONE
    surface: Surface = Surface.UPRIGHT


@dataclass(frozen=True)
class Item:
    """One thing, or one piece of stuff.

    Attributes:
        label: Cityscapes label id.
        faces: in the order of painting.
        box: ground plan, by which items are ordered; None for the ground, which is painted first.
        crowd: drawn without telling it from others of its class.
    """

    label: int
    faces: Sequence[Face]
    box: Box | None = None
    crowd: bool = False


@dataclass(frozen=True)
class Light:
    """Sun and sky.

    Attributes:
        sun: unit vector towards the sun, road coordinates.
        direct: strength of the sunlight, 0 when overcast.
        ambient: strength of the light from the sky.
    """

    sun: np.ndarray
    direct: float
    ambient: float

    def shade(self, normal: Sequence[float]) -> float:
        """Brightness of a matte surface with this unit normal."""
        cosine = sum(float(a) * float(b) for a, b in zip(self.sun, normal, strict=True))
        return self.ambient * (0.85 + 0.15 * float(normal[1])) + self.direct * max(cosine, 0.0)


@dataclass(frozen=True)
class Weather:
    """How the picture as a whole looks.

    Attributes:
        sky_top, sky_low: colours of the sky at the top and at the horizon.
        clouds: contrast of clouds, 0..1.
        fog: extinction, 1 / metres.
        tint: factor per channel.
        exposure: factor.
        gamma: exponent on display values, above 1 darker.
        saturation: 0 grey, 1 as painted.
        vignette: loss of light in the corners, 0..1.
        noise: standard deviation of the sensor's noise, display values.
        blur: standard deviation of the lens blur as a share of the image's width.
        shadow: brightness within cast shadows, 0..1.
    """

    sky_top: Color
    sky_low: Color
    clouds: float
    fog: float
    tint: Color
    exposure: float
    gamma: float
    saturation: float
    vignette: float
    noise: float
    blur: float
    shadow: float


@dataclass(frozen=True)
class FrameRegion:
    """Pixels without a view of the street: the car's own hood or the border of rectification.

    Attributes:
        label: Cityscapes label id.
        outline: float64 [n, 2], column and row as shares of the width and the height.
        color: display values.
    """

    label: int
    outline: np.ndarray
    color: Color


@dataclass
class StreetScene:
    """A whole scene; the same at every image size.

    Attributes:
        camera, light, weather: see there.
        items: everything with a place on the street.
        shadows: ground polygons float64 [K, n, 3] that lie in shadow.
        frame: regions painted last.
        texture_seed: of the patterns and the noise.
    """

    camera: StreetCamera
    light: Light
    weather: Weather
    texture_seed: int
    items: list[Item] = field(default_factory=list)
    shadows: list[np.ndarray] = field(default_factory=list)
    frame: list[FrameRegion] = field(default_factory=list)

    def add(
        self, label: int, faces: Sequence[Face], box: Box | None = None, crowd: bool = False
    ) -> None:
        """Append one item."""
        self.items.append(Item(label, faces, box, crowd))
