"""Shading of a sampled scene: direct light with soft shadows, one bounce, one mirror reflection.

What costs time is how often a point is shaded. Every sub-sample of a pixel is tested for the object
that it hits, but a pixel whose sub-samples agree is shaded once; only pixels on outlines, or where
a metal surface bends within the pixel, are shaded sub-sample by sub-sample.

Arrays of vectors are float32 [3, N]; radiance is linear RGB, [3, N].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slotseg.data.synthetic import backdrop, materials
from slotseg.data.synthetic.clevr_scene import SceneDescription
from slotseg.data.synthetic.lights import AreaLight, Light, Sun, visible_fraction
from slotseg.data.synthetic.shapes import Solid
from slotseg.data.synthetic.visibility import object_ids

GROUND_ALBEDO = 0.8

# (position, power in W, edge, colour) of key, fill and back light.
_AREA_LIGHTS = (
    ((6.44671, -2.905175, 4.258398), 78.53982, 0.5, (1.0, 0.932309, 0.816664)),
    ((-4.671124, -4.013597, 3.011225), 23.561945, 0.5, (0.761666, 0.81772, 1.0)),
    ((-1.168501, 2.646024, 5.815737), 39.26991, 1.0, (1.0, 1.0, 1.0)),
)
_SUN_STRENGTH = 0.45
_SUN_ANGLES = (0.236028, 0.41688, 0.097079)
_SUN_HALF_ANGLE = 0.09967

# Map of the light on the ground, for what objects receive and mirror from it.
_MAP_EXTENT = 6.0
_MAP_CELLS = 64

# Directions about the mirror direction in which a rough metal looks for its surroundings.
_ROUGH_SAMPLES = 4
# Metal pixels whose normals differ by more than this (cosine) are shaded sub-sample by sub-sample.
_BENT = 0.985


@dataclass
class Points:
    """Surface points to shade: position, unit normal, unit direction to the viewer, owner.

    ``owner`` is 0 on the backdrop and i on object i - 1.
    """

    position: np.ndarray
    normal: np.ndarray
    view: np.ndarray
    owner: np.ndarray

    def __getitem__(self, index: np.ndarray) -> Points:
        return Points(
            self.position[:, index], self.normal[:, index], self.view[:, index], self.owner[index]
        )


class Renderer:
    """Renders one sampled scene.

    Args:
        scene: what to render.
        rng: shifts light samples; the same state gives the same picture.
    """

    def __init__(self, scene: SceneDescription, rng: np.random.Generator):
        self.scene = scene
        self.rng = rng
        self.solids: list[Solid] = [o.solid for o in scene.objects]
        self.albedo = np.array([o.albedo for o in scene.objects], dtype=np.float32).T
        self.is_metal = np.array([False] + [o.material == "metal" for o in scene.objects])
        self.lights = _make_lights(scene.light_offsets)
        self.shade_map = self._make_shade_map()

    def render(
        self,
        window: tuple[float, float, float, float],
        image_size: tuple[int, int],
        supersampling: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return linear radiance [H, W, 3] and the object id of each pixel, uint8 [H, W].

        A pixel belongs to the object (or the background) that most of its sub-samples hit, of
        several equals to the nearest.
        """
        rows, columns = image_size
        s = supersampling
        camera = self.scene.camera
        rays = camera.rays(window, (rows * s, columns * s))
        ids, depth = object_ids(self.solids, camera, window, (rows * s, columns * s), rays)

        def by_pixel(a: np.ndarray) -> np.ndarray:  # [..., R*s, C*s] -> [..., s*s, R*C]
            a = a.reshape(*a.shape[:-2], rows, s, columns, s)
            a = np.moveaxis(a, (-3, -1), (-4, -3))
            return np.ascontiguousarray(a).reshape(*a.shape[:-4], s * s, rows * columns)

        rays, ids, depth = by_pixel(rays), by_pixel(ids), by_pixel(depth)
        mask = _majority(ids, depth)
        whole = (ids == ids[0]).all(0)
        whole &= ~self._bent(rays, ids, depth, whole)
        (single,) = np.nonzero(whole)
        (split,) = np.nonzero(~whole)

        image = np.zeros((3, rows * columns), dtype=np.float32)
        direction = np.concatenate(
            [rays[:, :, single].mean(1), rays[:, :, split].reshape(3, -1)], axis=1
        )
        owner = np.concatenate([ids[0, single], ids[:, split].ravel()])
        reach = np.concatenate([depth[:, single].mean(0), depth[:, split].ravel()])
        radiance = self.shade(self._points(direction, owner, reach))
        image[:, single] = radiance[:, : len(single)]
        # Each sub-sample is brought into the range of the display before the average, or the edge
        # of a highlight would be a staircase.
        parts = np.minimum(radiance[:, len(single) :], 1).reshape(3, s * s, len(split))
        image[:, split] = parts.mean(1)
        return image.T.reshape(rows, columns, 3), mask.reshape(rows, columns)

    def shade(self, points: Points) -> np.ndarray:
        """Radiance [3, N] that leaves points on the backdrop or on objects towards the viewer."""
        n_v = np.maximum((points.normal * points.view).sum(0), 1e-3)
        metal = self.is_metal[points.owner]
        rubber = ~metal & (points.owner > 0)
        diffuse = np.zeros_like(points.position)
        glossy = np.zeros_like(points.position)
        (glossy_index,) = np.nonzero(points.owner > 0)
        for light in self.lights:
            to_light, distance, solid_angle = light.illuminate(points.position)
            n_l = (points.normal * to_light).sum(0)
            lit = (n_l > 0) & (solid_angle > 0)
            seen = visible_fraction(
                light, points.position, to_light, distance, lit, points.owner, self.solids, self.rng
            )
            power = light.radiance[:, None] * (seen * lit * solid_angle)
            diffuse += power * n_l
            if len(glossy_index):
                i = glossy_index
                half = to_light[:, i] + points.view[:, i]
                half /= np.maximum(np.sqrt((half * half).sum(0)), 1e-6)
                n_h = np.maximum((points.normal[:, i] * half).sum(0), 0)
                h_v = (points.view[:, i] * half).sum(0)
                # The lamp's own size widens a highlight.
                apparent = np.sqrt(solid_angle[i] / np.pi) / 2
                scattering = np.where(
                    metal[i],
                    (1 - materials.METAL_SMOOTH_SHARE)
                    * materials.ggx(
                        n_l[i],
                        n_v[i],
                        n_h,
                        np.sqrt(np.float32(materials.METAL_ROUGH_WIDTH) ** 2 + apparent**2),
                    ),
                    self._rubber_gloss(n_l[i], n_v[i], n_h, h_v, i, points),
                )
                glossy[:, i] += power[:, i] * scattering
        color = np.full_like(points.position, GROUND_ALBEDO)
        color[:, glossy_index] = self.albedo[:, points.owner[glossy_index] - 1]
        base = np.ones_like(n_v)
        (i,) = np.nonzero(rubber)
        if len(i):
            diffuse[:, i] += self._bounced(points[i])
            coat = materials.fresnel(n_v[i], materials.RUBBER_COAT_IOR)
            rim = materials.fresnel(n_v[i], materials.RUBBER_RIM_IOR)
            base[i] = (1 - coat) * (1 - rim)
        radiance = color * (diffuse * (base / np.float32(np.pi)))
        radiance[:, metal] = 0
        radiance += np.where(metal, color, 1) * glossy
        (i,) = np.nonzero(metal)
        if len(i):
            radiance[:, i] += color[:, i] * self._mirrored(points[i])
        return radiance

    def _rubber_gloss(self, n_l, n_v, n_h, h_v, index, points):
        coat = materials.fresnel(n_v, materials.RUBBER_COAT_IOR)
        rim = materials.fresnel(n_v, materials.RUBBER_RIM_IOR)
        gloss = materials.beckmann(n_l, n_v, n_h, materials.RUBBER_COAT_WIDTH)
        return coat * materials.RUBBER_COAT_COLOR * gloss + (1 - coat) * rim * materials.velvet(
            n_l, n_v, n_h, h_v
        ) * 0.5

    # -- geometry ---------------------------------------------------------------------------------

    def _points(self, direction: np.ndarray, owner: np.ndarray, reach: np.ndarray) -> Points:
        origin = self.scene.camera.position.astype(np.float32)[:, None]
        reach = reach.copy()
        (ground,) = np.nonzero(owner == 0)
        if len(ground):
            reach[ground] = backdrop.intersect(origin, direction[:, ground])
        # Rays past the end of the backdrop: far away, where no light arrives.
        reach = np.minimum(reach, np.float32(100))
        position = origin + reach * direction
        view = direction / -np.sqrt((direction * direction).sum(0))
        return Points(position, self._normals(position, owner), view, owner)

    def _normals(self, position: np.ndarray, owner: np.ndarray) -> np.ndarray:
        normal = np.empty_like(position)
        (ground,) = np.nonzero(owner == 0)
        normal[:, ground] = backdrop.normals(position[:, ground])
        for index in np.unique(owner[owner > 0]):
            (mine,) = np.nonzero(owner == index)
            normal[:, mine] = self.solids[index - 1].normals(position[:, mine])
        return normal

    def _bent(
        self, rays: np.ndarray, ids: np.ndarray, depth: np.ndarray, whole: np.ndarray
    ) -> np.ndarray:
        """Pixels wholly on one metal object whose normals differ between sub-samples."""
        bent = np.zeros(whole.shape, dtype=bool)
        if len(ids) == 1:
            return bent
        (index,) = np.nonzero(whole & self.is_metal[ids[0]])
        if not len(index):
            return bent
        origin = self.scene.camera.position.astype(np.float32)[:, None, None]
        position = origin + depth[:, index] * rays[:, :, index]
        owner = ids[:, index]
        normal = self._normals(position.reshape(3, -1), owner.ravel()).reshape(position.shape)
        cosine = (normal * normal[:, :1]).sum(0)
        bent[index] = cosine.min(0) < _BENT
        return bent

    # -- light from the surroundings --------------------------------------------------------------

    def _make_shade_map(self) -> np.ndarray:
        """Light on the ground as a share of what would arrive without objects, [3, cells, cells]."""
        cell = (np.arange(_MAP_CELLS, dtype=np.float32) + 0.5) / _MAP_CELLS * 2 - 1
        x, y = np.meshgrid(cell * _MAP_EXTENT, cell * _MAP_EXTENT, indexing="ij")
        position = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)]).astype(np.float32)
        owner = np.zeros(x.size, dtype=np.uint8)
        total = np.zeros_like(position)
        arriving = np.zeros_like(position)
        for light in self.lights:
            to_light, distance, solid_angle = light.illuminate(position)
            power = light.radiance[:, None] * (solid_angle * np.maximum(to_light[2], 0))
            lit = np.ones(x.size, dtype=bool)
            seen = visible_fraction(
                light, position, to_light, distance, lit, owner, self.solids, self.rng
            )
            total += power
            arriving += power * seen
        return (arriving / total).reshape(3, _MAP_CELLS, _MAP_CELLS)

    def _ground_radiance(self, position: np.ndarray, normal: np.ndarray | None = None):
        """Radiance [3, N] of the backdrop at points on it."""
        light = np.zeros_like(position)
        for lamp in self.lights:
            to_light, _, solid_angle = lamp.illuminate(position)
            n_l = to_light[2] if normal is None else (normal * to_light).sum(0)
            light += lamp.radiance[:, None] * (solid_angle * np.maximum(n_l, 0))
        light *= self._shade(position)
        return light * np.float32(GROUND_ALBEDO / np.pi)

    def _shade(self, position: np.ndarray) -> np.ndarray:
        scale = np.float32(_MAP_CELLS / (2 * _MAP_EXTENT))
        u = np.clip((position[0] + _MAP_EXTENT) * scale - 0.5, 0, _MAP_CELLS - 1.001)
        v = np.clip((position[1] + _MAP_EXTENT) * scale - 0.5, 0, _MAP_CELLS - 1.001)
        i, j = u.astype(np.int64), v.astype(np.int64)
        u, v = u - i, v - j
        flat = self.shade_map.reshape(3, -1)
        at = i * _MAP_CELLS + j
        low = flat[:, at] * (1 - v) + flat[:, at + 1] * v
        high = flat[:, at + _MAP_CELLS] * (1 - v) + flat[:, at + _MAP_CELLS + 1] * v
        return (low * (1 - u) + high * u).astype(np.float32)

    def _bounced(self, points: Points) -> np.ndarray:
        """Irradiance [3, N] from the ground around an object's points."""
        height = np.maximum(points.position[2], 0.05)
        foot = points.position.copy()
        foot[0] += points.normal[0] * height
        foot[1] += points.normal[1] * height
        foot[2] = 0
        share = (1 - points.normal[2]) / 2
        return self._ground_radiance(foot) * (share * np.float32(np.pi))

    def _mirrored(self, points: Points) -> np.ndarray:
        """Radiance [3, N] that a metal's two lobes gather from the surroundings, without tint."""
        n_v = (points.normal * points.view).sum(0)
        mirror = 2 * n_v * points.normal - points.view
        smooth = np.float32(materials.METAL_SMOOTH_SHARE)
        result = smooth * self._incoming(points.position, mirror, points.owner, lamps=True)
        for _ in range(_ROUGH_SAMPLES):
            direction = self._rough_direction(points, n_v)
            incoming = self._incoming(points.position, direction, points.owner, lamps=False)
            result += (1 - smooth) / _ROUGH_SAMPLES * incoming
        return result

    def _rough_direction(self, points: Points, n_v: np.ndarray) -> np.ndarray:
        """A mirror direction about a random microfacet normal of the rough lobe."""
        count = len(n_v)
        u = self.rng.random((2, count), dtype=np.float32)
        tangent2 = np.float32(materials.METAL_ROUGH_WIDTH) ** 2 * u[0] / np.maximum(1 - u[0], 0.03)
        cosine = 1 / np.sqrt(1 + tangent2)
        sine = np.sqrt(1 - cosine * cosine)
        angle = np.float32(2 * np.pi) * u[1]
        normal = points.normal
        # Two tangents (Duff et al., JCGT 2017).
        sign = np.where(normal[2] < 0, np.float32(-1), np.float32(1))
        a = -1 / (sign + normal[2])
        b = normal[0] * normal[1] * a
        first = np.stack([1 + sign * normal[0] ** 2 * a, sign * b, -sign * normal[0]])
        second = np.stack([b, sign + normal[1] ** 2 * a, -normal[1]])
        half = first * (sine * np.cos(angle)) + second * (sine * np.sin(angle)) + normal * cosine
        return 2 * (half * points.view).sum(0) * half - points.view

    def _incoming(
        self, origin: np.ndarray, direction: np.ndarray, owner: np.ndarray, lamps: bool
    ) -> np.ndarray:
        """Radiance [3, N] that arrives along rays from objects' surfaces."""
        nearest = np.full(origin.shape[1], np.inf, dtype=np.float32)
        hit = np.zeros(origin.shape[1], dtype=np.uint8)
        for index, solid in enumerate(self.solids, start=1):
            offset = solid.center.astype(np.float32)[:, None] - origin
            along = (offset * direction).sum(0)
            across2 = (offset * offset).sum(0) - along * along
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
            if lamps:
                for light in self.lights:
                    share = light.seen_by(
                        origin[:, ground],
                        direction[:, ground],
                        2 * materials.METAL_SMOOTH_WIDTH + 0.02,
                    )
                    radiance[:, ground] += light.radiance[:, None] * share
        (struck,) = np.nonzero(hit > 0)
        if len(struck):
            position = origin[:, struck] + nearest[struck] * direction[:, struck]
            points = Points(
                position, self._normals(position, hit[struck]), -direction[:, struck], hit[struck]
            )
            radiance[:, struck] = self._secondary(points)
        return radiance

    def _secondary(self, points: Points) -> np.ndarray:
        """Radiance [3, N] of objects seen in a metal surface: no shadows, no further mirrors."""
        light = self._bounced(points)
        for lamp in self.lights:
            to_light, _, solid_angle = lamp.illuminate(points.position)
            n_l = (points.normal * to_light).sum(0)
            light += lamp.radiance[:, None] * (solid_angle * np.maximum(n_l, 0))
        return light * self.albedo[:, points.owner - 1] * np.float32(1 / np.pi)


def _make_lights(offsets: np.ndarray) -> list[Light]:
    lights: list[Light] = []
    for (position, power, size, color), offset in zip(_AREA_LIGHTS, offsets, strict=True):
        radiance = np.array(color) * power / (4 * size**2)
        lights.append(AreaLight(np.array(position) + offset, size, radiance.astype(np.float32)))
    a, b, _ = _SUN_ANGLES
    # A lamp shines along its own -z; turning about z does not move a round sun's axis.
    direction = np.array([np.sin(b) * np.cos(a), -np.sin(a), np.cos(b) * np.cos(a)])
    c, s = np.cos(_SUN_ANGLES[2]), np.sin(_SUN_ANGLES[2])
    direction = np.array(
        [c * direction[0] - s * direction[1], s * direction[0] + c * direction[1], direction[2]]
    )
    sun = Sun(direction, _SUN_HALF_ANGLE, np.zeros(3, dtype=np.float32))
    strength = _SUN_STRENGTH / sun.solid_angle
    lights.append(Sun(direction, _SUN_HALF_ANGLE, np.full(3, strength, dtype=np.float32)))
    return lights


def _majority(ids: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Most frequent id of each column of [S, N]; of equals, the one whose sub-sample is nearest."""
    if len(ids) == 1:
        return ids[0]
    result = ids[0].copy()
    (mixed,) = np.nonzero((ids != ids[0]).any(0))
    if len(mixed):
        part, near = ids[:, mixed], depth[:, mixed]
        votes = np.stack([(part == part[k]).sum(0) for k in range(len(part))]).astype(np.float32)
        # The background's depth is infinite here, so that an object wins a draw against it.
        votes += 0.5 / (1 + near)
        result[mixed] = np.take_along_axis(part, votes.argmax(0)[None], 0)[0]
    return result
