"""Shading of a sampled scene: direct light with soft shadows, one bounce, one mirror reflection.

What costs time is how often a point is shaded. Every sub-sample of a pixel is tested for the object
that it hits, but a pixel whose sub-samples agree is shaded once; only pixels on outlines, or where
a metal surface bends within the pixel, are shaded sub-sample by sub-sample.

Arrays of vectors are float32 [3, N]; radiance is linear RGB, [3, N].
"""

from __future__ import annotations

import numpy as np

from slotseg.data.synthetic import backdrop, materials
from slotseg.data.synthetic.clevr_scene import SceneDescription
from slotseg.data.synthetic.lights import clevr_lights, visible_fraction
from slotseg.data.synthetic.points import Points, surface_normals
from slotseg.data.synthetic.shapes import Solid
from slotseg.data.synthetic.surroundings import GROUND_ALBEDO, Surroundings
from slotseg.data.synthetic.vectors import column, dot, length
from slotseg.data.synthetic.visibility import object_ids

# Standard deviation of the grain in the published pictures, as a share of a frame pixel's radiance.
_GRAIN = 0.012

# Directions about the mirror direction in which a rough metal looks for its surroundings.
_ROUGH_SAMPLES = 6
_GOLDEN = np.float32(0.618034)
# Metal pixels whose normals differ by more than this (cosine) are shaded sub-sample by sub-sample.
_BENT = 0.985


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
        self.lights = clevr_lights(scene.light_offsets)
        self.surroundings = Surroundings(self.solids, self.albedo, self.lights, rng)

    def render(
        self,
        window: tuple[float, float, float, float],
        image_size: tuple[int, int],
        supersampling: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return linear radiance [H, W, 3] and the object id of each pixel, uint8 [H, W].

        A pixel belongs to what the ray through its centre meets: like the published masks, which
        are rendered without smoothing.
        """
        rows, columns = image_size
        s = supersampling
        camera = self.scene.camera
        rays = camera.rays(window, (rows * s, columns * s))
        ids, depth = object_ids(self.solids, camera, window, (rows * s, columns * s), rays)
        rays, ids, depth = (_by_pixel(a, s) for a in (rays, ids, depth))
        mask = self._centre_ids(rays, ids)
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
        image[:, split] = radiance[:, len(single) :].reshape(3, s * s, len(split)).mean(1)
        pixel = np.sqrt(window[2] * window[3] / (rows * columns))
        image *= 1 + np.float32(_GRAIN / pixel) * self.rng.standard_normal(
            rows * columns, dtype=np.float32
        )
        return image.T.reshape(rows, columns, 3), mask.reshape(rows, columns)

    def shade(self, points: Points) -> np.ndarray:
        """Radiance [3, N] that leaves points on the backdrop or on objects towards the viewer."""
        n_v = np.maximum(dot(points.normal, points.view), 1e-3)
        is_metal = self.is_metal[points.owner]
        (ground,) = np.nonzero(points.owner == 0)
        (rubber,) = np.nonzero(~is_metal & (points.owner > 0))
        (metal,) = np.nonzero(is_metal)
        rubber_base, rubber_coat, rubber_rim = materials.rubber_shares(n_v[rubber])

        diffuse = np.zeros_like(points.position)
        gloss = np.zeros_like(points.position)
        position = self._beside_edges(points, ground)
        for light in self.lights:
            to_light, distance, solid_angle = light.illuminate(points.position)
            n_l = dot(points.normal, to_light)
            lit = (n_l > 0) & (solid_angle > 0)
            seen = visible_fraction(
                light, position, to_light, distance, lit, points.owner, self.solids, self.rng
            )
            power = light.radiance[:, None] * (seen * lit * solid_angle)
            diffuse += power * n_l
            n_h, h_v = _half_cosines(points, to_light, rubber)
            gloss[:, rubber] += power[:, rubber] * materials.rubber_gloss(
                n_l[rubber], n_v[rubber], n_h, h_v, rubber_coat, rubber_rim
            )
            n_h, _ = _half_cosines(points, to_light, metal)
            gloss[:, metal] += power[:, metal] * materials.metal(
                n_l[metal], n_v[metal], n_h, solid_angle[metal]
            )

        radiance = np.empty_like(diffuse)
        on_ground = points[ground]
        diffuse[:, ground] += self.surroundings.from_objects(on_ground.position)
        diffuse[:, ground] += self.surroundings.from_wall(on_ground.position, on_ground.normal)
        radiance[:, ground] = diffuse[:, ground] * np.float32(GROUND_ALBEDO / np.pi)

        diffuse[:, rubber] += self.surroundings.on_object(points[rubber])
        base = self.albedo[:, points.owner[rubber] - 1] * (rubber_base / np.float32(np.pi))
        radiance[:, rubber] = base * diffuse[:, rubber] + gloss[:, rubber]

        tint = self.albedo[:, points.owner[metal] - 1]
        radiance[:, metal] = tint * (gloss[:, metal] + self._mirrored(points[metal]))
        return radiance

    def _centre_ids(self, rays: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """What the rays through the centres of pixels meet, given what their sub-samples meet."""
        count = len(ids)
        if count % 2:
            return ids[count // 2]
        mask = ids[0].copy()
        (mixed,) = np.nonzero((ids != ids[0]).any(0))
        centre, around = rays[:, :, mixed].mean(1), ids[:, mixed]
        origin = column(self.scene.camera.position)
        nearest = np.full(len(mixed), np.inf, dtype=np.float32)
        mask[mixed] = 0
        for index in np.unique(around[around > 0]):
            (near,) = np.nonzero((around == index).any(0))
            hits = self.solids[index - 1].intersect(origin, centre[:, near])
            (closer,) = np.nonzero(hits < nearest[near])
            nearest[near[closer]] = hits[closer]
            mask[mixed[near[closer]]] = index
        return mask

    def _points(self, direction: np.ndarray, owner: np.ndarray, reach: np.ndarray) -> Points:
        origin = column(self.scene.camera.position)
        reach = reach.copy()
        (ground,) = np.nonzero(owner == 0)
        if len(ground):
            reach[ground] = backdrop.intersect(origin, direction[:, ground])
        # Rays past the end of the backdrop: far away, where no light arrives.
        reach = np.minimum(reach, np.float32(100))
        position = origin + reach * direction
        view = direction / -length(direction)
        return Points(position, surface_normals(self.solids, position, owner), view, owner)

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
        origin = column(self.scene.camera.position)[:, None]
        position = origin + depth[:, index] * rays[:, :, index]
        owner = ids[:, index]
        normal = surface_normals(self.solids, position.reshape(3, -1), owner.ravel()).reshape(
            position.shape
        )
        cosine = dot(normal, normal[:, :1])
        bent[index] = cosine.min(0) < _BENT
        return bent

    def _beside_edges(self, points: Points, ground: np.ndarray) -> np.ndarray:
        """Where to look at the lamps from, [3, N]: for most points, their own position.

        Shadows take edges as sharp. The strip of ground that shows below a rounded lower edge would
        lie inside the object, so it looks from just beside it.
        """
        position = points.position
        spot = position[:, ground]
        for solid in self.solids:
            if solid.shape == "sphere":
                continue
            offset = spot - column(solid.center)
            (near,) = np.nonzero(
                np.maximum(np.abs(offset[0]), np.abs(offset[1])) < 1.5 * solid.half
            )
            if not len(near):
                continue
            offset = solid.to_local(offset[:, near])
            if solid.shape == "cube":
                away = np.maximum(np.abs(offset[0]), np.abs(offset[1]))
            else:
                away = np.hypot(offset[0], offset[1])
            scale = np.maximum(np.float32(1.01 * solid.half) / np.maximum(away, 1e-6), 1)
            if (scale > 1).any():
                offset[:2] *= scale
                position = position.copy() if position is points.position else position
                position[:, ground[near]] = solid.to_world(offset) + column(solid.center)
        return position

    def _mirrored(self, points: Points) -> np.ndarray:
        """Radiance [3, N] that a metal's two lobes gather from the surroundings, without tint."""
        n_v = dot(points.normal, points.view)
        count, copies = len(n_v), _ROUGH_SAMPLES + 1
        # All rays in one go; those of the smooth lobe come first.
        directions = [2 * n_v * points.normal - points.view]
        u = self.rng.random((2, count), dtype=np.float32)
        for k in range(_ROUGH_SAMPLES):  # turned evenly, with widths in golden steps
            turn = (u[1] + k) / _ROUGH_SAMPLES
            directions.append(self._rough_direction(points, (u[0] + k * _GOLDEN) % 1, turn))
        incoming = self.surroundings.incoming(
            np.tile(points.position, copies),
            np.concatenate(directions, axis=1),
            np.tile(points.owner, copies),
        ).reshape(3, copies, count)
        smooth = np.float32(materials.METAL_SMOOTH_SHARE)
        return smooth * incoming[:, 0] + (1 - smooth) * incoming[:, 1:].mean(1)

    @staticmethod
    def _rough_direction(points: Points, u: np.ndarray, turn: np.ndarray) -> np.ndarray:
        """The mirror direction about a microfacet normal of the rough lobe.

        ``u`` and ``turn`` [N] in 0..1 choose the normal's slope (GGX) and azimuth.
        """
        tangent2 = np.float32(materials.METAL_ROUGH_WIDTH) ** 2 * u / np.maximum(1 - u, 0.03)
        cosine = 1 / np.sqrt(1 + tangent2)
        sine = np.sqrt(1 - cosine * cosine)
        angle = np.float32(2 * np.pi) * turn
        normal = points.normal
        # Two tangents (Duff et al., JCGT 2017).
        sign = np.where(normal[2] < 0, np.float32(-1), np.float32(1))
        a = -1 / (sign + normal[2])
        b = normal[0] * normal[1] * a
        first = np.stack([1 + sign * normal[0] ** 2 * a, sign * b, -sign * normal[0]])
        second = np.stack([b, sign + normal[1] ** 2 * a, -normal[1]])
        half = first * (sine * np.cos(angle)) + second * (sine * np.sin(angle)) + normal * cosine
        return 2 * dot(half, points.view) * half - points.view


def _by_pixel(grid: np.ndarray, s: int) -> np.ndarray:
    """Sort a grid of s x s sub-samples a pixel, [..., R * s, C * s] -> [..., s * s, R * C]."""
    *lead, rows, columns = grid.shape
    grid = grid.reshape(*lead, rows // s, s, columns // s, s)
    grid = np.moveaxis(grid, (-3, -1), (-4, -3))
    return np.ascontiguousarray(grid).reshape(*lead, s * s, (rows // s) * (columns // s))


def _half_cosines(
    points: Points, to_light: np.ndarray, index: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of the half vector with the normal and with the view, at some of the points."""
    view = points.view[:, index]
    half = to_light[:, index] + view
    half /= np.maximum(length(half), 1e-6)
    return np.maximum(dot(points.normal[:, index], half), 0), dot(view, half)
