"""Light that reaches a point from the ground, the wall and other objects instead of a lamp.

One bounce, without tracing rays for it: the light on the ground is tabulated once a scene, and what
an object throws back to the ground comes from a table of its sides. Only metal surfaces trace rays,
one reflection deep. The constants were fitted to path-traced pictures of the published scene.

Arrays of vectors are float32 [3, N]; radiance and irradiance are linear RGB.
"""

from __future__ import annotations

import numpy as np

from slotseg.data.synthetic import backdrop
from slotseg.data.synthetic.lights import Light, visible_fraction
from slotseg.data.synthetic.points import Points, surface_normals
from slotseg.data.synthetic.shapes import Solid
from slotseg.data.synthetic.vectors import column, dot

GROUND_ALBEDO = 0.8

# The table of light on the ground covers this much around the origin, in so many cells a side.
_MAP_EXTENT = 6.0
_MAP_CELLS = 64

# Irradiance that the wall sends back to the ground at the origin, and its growth per unit towards
# the wall between two distances.
_WALL_LIGHT = 0.057
_WALL_RISE = 0.0035
_WALL_RANGE = (-8.0, 10.0)

# Share of the ground around an object that other objects leave in its view, on average.
_OPEN_GROUND = 0.94

# Directions around an object in which the light that it throws back is tabulated.
_AZIMUTHS = 12
# A ball shows the ground its lower half, which bends away from the lamps.
_BALL_GLOW = 0.3


class Surroundings:
    """What a scene's ground, wall and objects send to each other.

    Args:
        solids: the objects.
        albedo: float32 [3, objects], linear RGB.
        lights: the lamps.
        rng: places light samples.
    """

    def __init__(
        self, solids: list[Solid], albedo: np.ndarray, lights: list[Light], rng: np.random.Generator
    ) -> None:
        self.solids = solids
        self.albedo = albedo
        self.lights = lights
        self._shade_map = self._make_shade_map(rng)
        self._glow = self._make_glow()

    def from_wall(self, position: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """Irradiance [N] that the backdrop's wall sends back to surfaces of some normal."""
        along = backdrop.RISE[0] * position[0] + backdrop.RISE[1] * position[1]
        facing = backdrop.RISE[0] * normal[0] + backdrop.RISE[1] * normal[1]
        share = 0.5 + 0.5 * (0.9 * facing + 0.44 * normal[2])
        level = _WALL_LIGHT + _WALL_RISE * np.clip(along, *_WALL_RANGE)
        # Flat ground has a share of .72.
        return (level * share / 0.72).astype(np.float32)

    def on_object(self, points: Points) -> np.ndarray:
        """Irradiance [3, N] that an object's points receive from ground and wall."""
        # What the point sees of the ground counts as lit like one spot outside of the object.
        height = np.maximum(points.position[2], 0)
        level = np.sqrt(points.normal[0] ** 2 + points.normal[1] ** 2)
        step = (height + 0.2) / np.maximum(level, 0.2)
        foot = points.position.copy()
        foot[0] += points.normal[0] * step
        foot[1] += points.normal[1] * step
        foot[2] = 0
        share = _OPEN_GROUND * (1 - points.normal[2]) / 2
        light = self._ground_radiance(foot) * (share * np.float32(np.pi))
        return light + self.from_wall(points.position, points.normal)

    def from_objects(self, position: np.ndarray) -> np.ndarray:
        """Irradiance [3, N] that points on the ground receive from the objects' sides.

        An object counts as a sphere that touches the ground: the share of a ground point's sky that
        it fills, weighted by the cosine, is (radius / distance) cubed.
        """
        light = np.zeros_like(position)
        for index, solid in enumerate(self.solids):
            center = solid.center.astype(np.float32)
            x, y = position[0] - center[0], position[1] - center[1]
            square = x * x + y * y
            (near,) = np.nonzero(square < (4 * solid.half) ** 2)
            if not len(near):
                continue
            ratio = solid.half**2 / (square[near] + solid.half**2)
            share = ratio * np.sqrt(ratio)
            turn = np.arctan2(y[near], x[near]) * np.float32(_AZIMUTHS / (2 * np.pi)) % _AZIMUTHS
            low = turn.astype(np.int32) % _AZIMUTHS
            mix = turn - low.astype(np.float32)
            glow = self._glow[:, index]
            glow = glow[:, low] * (1 - mix) + glow[:, (low + 1) % _AZIMUTHS] * mix
            light[:, near] += glow * (share * np.float32(np.pi))
        return light

    def incoming(self, origin: np.ndarray, direction: np.ndarray, owner: np.ndarray) -> np.ndarray:
        """Radiance [3, N] that arrives along rays from objects' surfaces, the lamps' own aside."""
        nearest = np.full(origin.shape[1], np.inf, dtype=np.float32)
        hit = np.zeros(origin.shape[1], dtype=np.uint8)
        for index, solid in enumerate(self.solids, start=1):
            offset = column(solid.center) - origin
            along = dot(offset, direction)
            across2 = dot(offset, offset) - along * along
            near = (owner != index) & (along > 0) & (across2 < solid.bounding_radius**2)
            (near,) = np.nonzero(near)
            if len(near):
                t = solid.intersect(origin[:, near], direction[:, near])
                closer = t < nearest[near]
                nearest[near[closer]] = t[closer]
                hit[near[closer]] = index
        radiance = np.zeros_like(origin)
        (ground,) = np.nonzero(hit == 0)
        if len(ground):
            t = backdrop.intersect(origin[:, ground], direction[:, ground])
            finite = np.isfinite(t)
            reached = ground[finite]
            position = origin[:, reached] + t[finite] * direction[:, reached]
            radiance[:, reached] = self._ground_radiance(position, backdrop.normals(position))
        (struck,) = np.nonzero(hit > 0)
        if len(struck):
            position = origin[:, struck] + nearest[struck] * direction[:, struck]
            points = Points(
                position,
                surface_normals(self.solids, position, hit[struck]),
                -direction[:, struck],
                hit[struck],
            )
            radiance[:, struck] = self._secondary(points)
        return radiance

    def _secondary(self, points: Points) -> np.ndarray:
        """Radiance [3, N] of objects seen in a metal surface: no shadows, no further mirrors."""
        light = self.on_object(points)
        for lamp in self.lights:
            to_light, _, solid_angle = lamp.illuminate(points.position)
            n_l = dot(points.normal, to_light)
            light += lamp.radiance[:, None] * (solid_angle * np.maximum(n_l, 0))
        return light * self.albedo[:, points.owner - 1] * np.float32(1 / np.pi)

    def _ground_radiance(
        self, position: np.ndarray, normal: np.ndarray | None = None
    ) -> np.ndarray:
        """Radiance [3, N] of the backdrop at points on it, level ones if no normals are given."""
        light = np.zeros_like(position)
        for lamp in self.lights:
            to_light, _, solid_angle = lamp.illuminate(position)
            n_l = to_light[2] if normal is None else dot(normal, to_light)
            light += lamp.radiance[:, None] * (solid_angle * np.maximum(n_l, 0))
        light *= self._shade(position)
        facing = np.array([[0], [0], [1]], dtype=np.float32) if normal is None else normal
        light += self.from_wall(position, facing)
        return light * np.float32(GROUND_ALBEDO / np.pi)

    def _shade(self, position: np.ndarray) -> np.ndarray:
        """Interpolated table [3, N]: the share of the lamps' light that arrives."""
        scale = np.float32(_MAP_CELLS / (2 * _MAP_EXTENT))
        u = np.clip((position[0] + _MAP_EXTENT) * scale - 0.5, 0, _MAP_CELLS - 1.001)
        v = np.clip((position[1] + _MAP_EXTENT) * scale - 0.5, 0, _MAP_CELLS - 1.001)
        i, j = u.astype(np.int32), v.astype(np.int32)
        u, v = u - i.astype(np.float32), v - j.astype(np.float32)
        flat = self._shade_map.reshape(3, -1)
        at = i * _MAP_CELLS + j
        low = flat[:, at] * (1 - v) + flat[:, at + 1] * v
        high = flat[:, at + _MAP_CELLS] * (1 - v) + flat[:, at + _MAP_CELLS + 1] * v
        return low * (1 - u) + high * u

    def _make_shade_map(self, rng: np.random.Generator) -> np.ndarray:
        """Share of the lamps' light that objects let through to the ground, [3, cells, cells]."""
        cell = (np.arange(_MAP_CELLS, dtype=np.float32) + 0.5) / _MAP_CELLS * 2 - 1
        x, y = np.meshgrid(cell * _MAP_EXTENT, cell * _MAP_EXTENT, indexing="ij")
        position = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)]).astype(np.float32)
        owner = self._footprints(position)
        total = np.zeros_like(position)
        arriving = np.zeros_like(position)
        for light in self.lights:
            to_light, distance, solid_angle = light.illuminate(position)
            power = light.radiance[:, None] * (solid_angle * np.maximum(to_light[2], 0))
            lit = np.ones(x.size, dtype=bool)
            seen = visible_fraction(
                light, position, to_light, distance, lit, owner, self.solids, rng
            )
            total += power
            arriving += power * seen
        return (arriving / total).reshape(3, _MAP_CELLS, _MAP_CELLS)

    def _footprints(self, position: np.ndarray) -> np.ndarray:
        """The object that stands on each point of the ground, 0 if there is none.

        It must not darken the map there, or the dark would leak into the cells around it.
        """
        owner = np.zeros(position.shape[1], dtype=np.uint8)
        cell = 2 * _MAP_EXTENT / _MAP_CELLS
        for index, solid in enumerate(self.solids, start=1):
            offset = np.abs(solid.to_local(position - column(solid.center)))
            if solid.shape == "cube":
                inside = np.maximum(offset[0], offset[1]) < solid.half + cell / 2
            else:
                # The ground below a ball's side is in view, and dark.
                reach = solid.half / 2 if solid.shape == "sphere" else solid.half + cell / 2
                inside = np.hypot(offset[0], offset[1]) < reach
            owner[inside] = index
        return owner

    def _make_glow(self) -> np.ndarray:
        """Radiance [3, objects, azimuths] of the objects' sides."""
        angle = np.arange(_AZIMUTHS) * (2 * np.pi / _AZIMUTHS)
        around = np.stack([np.cos(angle), np.sin(angle), np.zeros(_AZIMUTHS)])
        center = np.stack([solid.center for solid in self.solids], axis=1)
        half = np.array([solid.half for solid in self.solids])
        position = center[:, :, None] + half[:, None] * around[:, None]
        position = position.reshape(3, -1).astype(np.float32)
        normal = np.tile(around, len(self.solids)).astype(np.float32)
        owner = np.repeat(np.arange(1, len(self.solids) + 1), _AZIMUTHS)
        glow = self._secondary(Points(position, normal, normal, owner))
        share = np.array([_BALL_GLOW if s.shape == "sphere" else 1.0 for s in self.solids])
        return (glow.reshape(3, len(self.solids), _AZIMUTHS) * share[:, None]).astype(np.float32)
