"""The lamps of the published scene, and how much of each a point sees.

Arrays of vectors are float32 [3, N].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from slotseg.data.synthetic.shapes import Solid
from slotseg.data.synthetic.vectors import column, dot, length

# A lamp is sampled once in each cell of a grid of this many cells a side; the samples of one point
# fit the bits of one 16-bit number.
_GRID = 4
_FULL = np.uint16(2 ** (_GRID * _GRID) - 1)
_CELLS = np.stack(np.divmod(np.arange(_GRID * _GRID, dtype=np.float32), np.float32(_GRID)))[
    ..., None
]
_BITS = (1 << np.arange(_GRID * _GRID)).astype(np.uint16)


@dataclass(frozen=True)
class AreaLight:
    """A square lamp that shines towards the origin.

    Attributes:
        center: float64 [3], world units.
        size: length of an edge.
        radiance: float32 [3], linear RGB, the same over the square and in all directions.
    """

    center: np.ndarray
    size: float
    radiance: np.ndarray

    @cached_property
    def axes(self) -> np.ndarray:
        """Right, up and forward (towards the origin), float64 [3, 3]."""
        forward = -self.center / np.linalg.norm(self.center)
        upright = abs(forward[2]) > 0.999  # straight down: any direction will do as "up"
        right = np.cross(forward, (0.0, 1.0, 0.0) if upright else (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(right, forward), forward])

    @property
    def spread(self) -> float:
        """Half the diagonal: how far a sample lies from the centre at most."""
        return float(self.size / np.sqrt(2))

    def illuminate(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Unit directions to the centre [3, N], distances [N] and solid angles [N]."""
        to_light = column(self.center) - points
        distance = length(to_light)
        to_light /= distance
        forward = self.axes[2].astype(np.float32)
        cosine = np.maximum(-dot(forward, to_light), 0)
        return to_light, distance, np.float32(self.size**2) * cosine / (distance * distance)

    def sample_rays(self, points: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Vectors [3, K, N] from points to places on the square, u and v [K, N] in 0..1."""
        right, up, _ = (self.axes * self.size).astype(np.float32)
        corner = (self.center - (self.axes[0] + self.axes[1]) * self.size / 2).astype(np.float32)
        return np.stack([corner[i] - points[i] + right[i] * u + up[i] * v for i in range(3)])


@dataclass(frozen=True)
class Sun:
    """A disc of light at infinity.

    Attributes:
        direction: float64 [3], unit vector from the scene to the sun.
        half_angle: angular radius, radians.
        radiance: float32 [3], linear RGB.
    """

    direction: np.ndarray
    half_angle: float
    radiance: np.ndarray

    @cached_property
    def sides(self) -> tuple[np.ndarray, np.ndarray]:
        """Two unit vectors across the direction."""
        side = np.cross(self.direction, (0.0, 1.0, 0.0))
        side /= np.linalg.norm(side)
        return side, np.cross(self.direction, side)

    @property
    def solid_angle(self) -> float:
        return float(np.pi * np.sin(self.half_angle) ** 2)

    @property
    def spread(self) -> float:
        return float(np.tan(self.half_angle))

    def illuminate(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As for an area light; the distance is infinite."""
        count = points.shape[1]
        direction = np.repeat(self.direction.astype(np.float32)[:, None], count, axis=1)
        distance = np.full(count, np.inf, dtype=np.float32)
        return direction, distance, np.full(count, self.solid_angle, dtype=np.float32)

    def sample_rays(self, points: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Directions [3, K, N] towards places on the disc."""
        side, other = self.sides
        # Shirley's area-preserving map would keep the cells compact; polar cells do for shadows.
        radius = np.sqrt(u) * np.float32(self.spread)
        a, b = radius * np.cos(2 * np.pi * v), radius * np.sin(2 * np.pi * v)
        return np.stack(
            [
                np.float32(self.direction[i]) + np.float32(side[i]) * a + np.float32(other[i]) * b
                for i in range(3)
            ]
        )


Light = AreaLight | Sun

# (position, power in W, edge, colour) of the published key, fill and back light.
_AREA_LIGHTS = (
    ((6.44671, -2.905175, 4.258398), 78.53982, 0.5, (1.0, 0.932309, 0.816664)),
    ((-4.671124, -4.013597, 3.011225), 23.561945, 0.5, (0.761666, 0.81772, 1.0)),
    ((-1.168501, 2.646024, 5.815737), 39.26991, 1.0, (1.0, 1.0, 1.0)),
)
_SUN_IRRADIANCE = 0.45
# The published sun, turned by 13.52, 23.89 and 5.56 degrees about x, y and z from straight above.
_SUN_DIRECTION = (0.41450, -0.19458, 0.88901)
_SUN_HALF_ANGLE = 0.09967


def clevr_lights(offsets: np.ndarray) -> list[Light]:
    """The four lamps, the area lights moved by ``offsets`` [3, 3] (key, fill, back)."""
    lights: list[Light] = []
    for (position, power, size, color), offset in zip(_AREA_LIGHTS, offsets, strict=True):
        # A Lambertian emitter of this power and area.
        radiance = np.array(color) * power / (np.pi * size**2)
        lights.append(AreaLight(np.array(position) + offset, size, radiance.astype(np.float32)))
    radiance = _SUN_IRRADIANCE / (np.pi * np.sin(_SUN_HALF_ANGLE) ** 2)
    color = np.full(3, radiance, dtype=np.float32)
    return [*lights, Sun(np.array(_SUN_DIRECTION), _SUN_HALF_ANGLE, color)]


def visible_fraction(
    light: Light,
    points: np.ndarray,
    to_light: np.ndarray,
    distance: np.ndarray,
    asking: np.ndarray,
    owners: np.ndarray,
    solids: list[Solid],
    rng: np.random.Generator,
) -> np.ndarray:
    """Share of a lamp that no object hides, [N].

    Args:
        light: the lamp.
        points: [3, N].
        to_light: [3, N] unit directions to the lamp's centre, from ``light.illuminate``.
        distance: [N], from ``light.illuminate``.
        asking: bool [N]; the share is 1 elsewhere (points that face away, for instance).
        owners: int [N], 0 or i for points on ``solids[i - 1]``. A convex solid does not shade its
            own lit side.
        solids: what may stand in between.
        rng: shifts the samples within their cells from point to point, which turns bands into
            fine grain.
    """
    hidden = np.zeros(points.shape[1], dtype=np.uint16)
    # One place within the cells per point: the samples stay evenly spread.
    shift = rng.random((2, points.shape[1]), dtype=np.float32)
    finite = np.isfinite(distance[0]) if len(distance) else True
    for index, solid in enumerate(solids, start=1):
        center = column(solid.center)
        offset = center - points
        along = dot(offset, to_light)
        across = np.sqrt(np.maximum(dot(offset, offset) - along * along, 0))
        # Half-width, where the solid is, of the cone from the point to the lamp.
        share = np.clip(along / distance, 0, 1) if finite else np.maximum(along, 0)
        cone = share * np.float32(light.spread)
        reach = np.float32(solid.bounding_radius)
        near = asking & (owners != index) & (hidden != _FULL) & (along > -reach)
        if finite:
            near &= along < distance + reach
        near &= across < reach + cone
        inside = near & (across + cone < solid.half) & (along > 0)
        if finite:
            inside &= along < distance - reach
        hidden[inside] = _FULL
        (unsure,) = np.nonzero(near & ~inside)
        if not len(unsure):
            continue
        u, v = (_CELLS + shift[:, None, unsure]) / np.float32(_GRID)
        chosen = points[:, unsure]
        rays = light.sample_rays(chosen, u, v)
        blocked = solid.blocks(chosen[:, None, :], rays, 1.0 if finite else np.inf)
        hidden[unsure] |= np.bitwise_or.reduce(
            np.where(blocked, _BITS[:, None], np.uint16(0)), axis=0
        )
    return 1 - np.bitwise_count(hidden).astype(np.float32) / (_GRID * _GRID)
