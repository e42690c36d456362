"""The lamps of the published scene, and how much of each a point sees.

Arrays of vectors are float32 [3, N].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slotseg.data.synthetic.shapes import Solid

# A square lamp is sampled on a grid of this many cells a side, shifted at random per point; the
# cells of one point fit the bits of one 16-bit number.
_GRID = 4
_FULL = np.uint16(2 ** (_GRID * _GRID) - 1)
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

    @property
    def axes(self) -> np.ndarray:
        """Right, up and forward (towards the origin), float64 [3, 3]."""
        forward = -self.center / np.linalg.norm(self.center)
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(right, forward), forward])

    @property
    def spread(self) -> float:
        """Half the diagonal: how far a sample lies from the centre at most."""
        return self.size / np.sqrt(2)

    def illuminate(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Unit directions to the centre [3, N], distances [N] and solid angles [N]."""
        to_light = self.center.astype(np.float32)[:, None] - points
        distance = np.sqrt((to_light * to_light).sum(0))
        to_light /= distance
        forward = self.axes[2].astype(np.float32)
        cosine = np.maximum(-(forward[:, None] * to_light).sum(0), 0)
        return to_light, distance, np.float32(self.size**2) * cosine / (distance * distance)

    def sample_rays(self, points: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Vectors [3, K, N] from points to places on the square, u and v [K, N] in 0..1."""
        right, up, _ = (self.axes * self.size).astype(np.float32)
        corner = (self.center - (self.axes[0] + self.axes[1]) * self.size / 2).astype(np.float32)
        return np.stack([corner[i] - points[i] + right[i] * u + up[i] * v for i in range(3)])

    def seen_by(self, origins: np.ndarray, directions: np.ndarray, blur: float) -> np.ndarray:
        """Share [N] of a thin cone about each ray that the square fills.

        ``blur`` is the cone's width in radians: the edge of the square's image is that soft.
        """
        right, up, forward = self.axes.astype(np.float32)
        offset = self.center.astype(np.float32)[:, None] - origins
        towards = (forward[:, None] * directions).sum(0)
        depth = (forward[:, None] * offset).sum(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = depth / towards
        # Only the front emits: the ray must run against the lamp's forward axis.
        ahead = (t > 0) & (towards < 0)
        t = np.where(ahead, t, 1)
        soft = np.maximum(np.float32(blur) * t, 1e-4)
        share = ahead.astype(np.float32)
        for axis in (right, up):
            across = (axis[:, None] * (t * directions - offset)).sum(0)
            share *= np.clip((self.size / 2 - np.abs(across)) / soft + 0.5, 0, 1)
        return share


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
        side = np.cross(self.direction, (0.0, 1.0, 0.0))
        side /= np.linalg.norm(side)
        other = np.cross(self.direction, side)
        # Shirley's area-preserving map would keep the cells compact; polar cells do for shadows.
        radius = np.sqrt(u) * np.float32(self.spread)
        a, b = radius * np.cos(2 * np.pi * v), radius * np.sin(2 * np.pi * v)
        return np.stack(
            [
                np.float32(self.direction[i]) + np.float32(side[i]) * a + np.float32(other[i]) * b
                for i in range(3)
            ]
        )

    def seen_by(self, origins: np.ndarray, directions: np.ndarray, blur: float) -> np.ndarray:
        """As for an area light."""
        cosine = (self.direction.astype(np.float32)[:, None] * directions).sum(0)
        angle = np.arccos(np.clip(cosine, -1, 1))
        return np.clip((self.half_angle - angle) / np.float32(blur) + 0.5, 0, 1)


Light = AreaLight | Sun


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
        rng: shifts the grid of samples from point to point, which turns bands into fine grain.
    """
    hidden = np.zeros(points.shape[1], dtype=np.uint16)
    u = v = None
    finite = np.isfinite(distance[0]) if len(distance) else True
    for index, solid in enumerate(solids, start=1):
        center = solid.center.astype(np.float32)[:, None]
        offset = center - points
        along = (offset * to_light).sum(0)
        across = np.sqrt(np.maximum((offset * offset).sum(0) - along * along, 0))
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
        if u is None:
            u, v = _shifted_grid(points.shape[1], rng)
        chosen = points[:, unsure]
        rays = light.sample_rays(chosen, u[:, unsure], v[:, unsure])
        blocked = solid.blocks(chosen[:, None, :], rays, 1.0 if finite else np.inf)
        hidden[unsure] |= np.bitwise_or.reduce(
            np.where(blocked, _BITS[:, None], np.uint16(0)), axis=0
        )
    return 1 - np.bitwise_count(hidden).astype(np.float32) / (_GRID * _GRID)


def _shifted_grid(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    cells = np.arange(_GRID * _GRID)
    shift = rng.random((2, count), dtype=np.float32)
    u = ((cells % _GRID)[:, None] / np.float32(_GRID) + shift[0]) % 1
    v = ((cells // _GRID)[:, None] / np.float32(_GRID) + shift[1]) % 1
    return u.astype(np.float32), v.astype(np.float32)
