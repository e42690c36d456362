"""Where rays meet spheres, rounded boxes, rounded cylinders and the curved ground.

Every solid is a convex *core* (a point, a box or a cylinder) grown by a radius: a sphere is a grown
point, a box with rounded edges a grown smaller box. The distance from a point to the core, less the
radius, is then a convex function along any ray, so Newton's method started in front of the solid
approaches the hit from one side and never jumps over it, and a ray along which the function stops
falling above zero has missed.

Arrays of vectors are float32 [3, N]: one contiguous row per coordinate. Directions need no unit
length; the parameter of a hit is in units of the direction given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slotseg.data.synthetic.vectors import column, dot, length

SHAPES = ("cube", "sphere", "cylinder")

#: Radius of the rounded edges, as a fraction of the half extent, fitted to the published meshes.
EDGE_RADIUS = {"cube": 0.18, "cylinder": 0.06, "sphere": 1.0}

# Newton steps. A ray that grazes a solid converges only linearly (it halves its error each step).
_NEWTON_STEPS = 14
# A hit is accepted this close to the surface, as a fraction of the half extent.
_TOLERANCE = 2e-4


@dataclass(frozen=True)
class Solid:
    """One object of a scene, standing on the ground.

    Attributes:
        shape: "cube", "sphere" or "cylinder".
        center: float64 [3], world units.
        half: half extent: radius of a sphere or cylinder, half an edge of a cube.
        rotation: turn about the vertical axis, radians.
    """

    shape: str
    center: np.ndarray
    half: float
    rotation: float

    @property
    def edge_radius(self) -> float:
        return self.half * EDGE_RADIUS[self.shape]

    @property
    def bounding_radius(self) -> float:
        """Radius of the smallest sphere about the centre that holds the solid."""
        edge = self.edge_radius
        corner = {"cube": 3.0, "cylinder": 2.0, "sphere": 0.0}[self.shape]
        return float((self.half - edge) * np.sqrt(corner) + edge)

    def to_local(self, vectors: np.ndarray) -> np.ndarray:
        """Turn world vectors [3, ...] into the solid's own axes (no translation)."""
        if self.shape != "cube":  # the others look the same from all sides
            return vectors
        cosine, sine = np.float32(np.cos(self.rotation)), np.float32(np.sin(self.rotation))
        x, y, z = vectors
        return np.stack([cosine * x + sine * y, cosine * y - sine * x, z])

    def to_world(self, vectors: np.ndarray) -> np.ndarray:
        """Inverse of :meth:`to_local`."""
        if self.shape != "cube":
            return vectors
        cosine, sine = np.float32(np.cos(self.rotation)), np.float32(np.sin(self.rotation))
        x, y, z = vectors
        return np.stack([cosine * x - sine * y, cosine * y + sine * x, z])

    def intersect(self, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Parameter of the first hit of each ray that starts outside the solid.

        Args:
            origins: float32 [3, N], or [3, 1] for rays with a common origin.
            directions: float32 [3, N].

        Returns:
            float32 [N], infinite where the ray misses or the solid lies behind the origin.
        """
        offset = self.to_local(origins - column(self.center))
        local = self.to_local(directions)
        if self.shape == "sphere":
            enter, _ = _hit_sphere(offset, local, self.half)
            return np.where(enter > 0, enter, np.float32(np.inf))
        enter, leave = self._hull(offset, local)
        hits = np.full(local.shape[1], np.inf, dtype=np.float32)
        (candidates,) = np.nonzero((enter < leave) & (enter > 0))
        if len(candidates):
            offset = offset[:, candidates] if offset.shape[1] > 1 else offset
            hits[candidates] = self._newton(offset, local[:, candidates], enter[candidates])
        return hits

    def blocks(
        self, origins: np.ndarray, directions: np.ndarray, length: np.ndarray | float
    ) -> np.ndarray:
        """Whether each ray meets the solid before ``length``, rounded edges taken as sharp.

        Shadows are soft, so that the rounding would not show in them.

        Returns:
            bool, of the rays' shape without the leading axis (any shape [3, ...] is accepted).
        """
        offset = self.to_local(origins - column(self.center).reshape(3, *[1] * (origins.ndim - 1)))
        local = self.to_local(directions)
        if self.shape == "sphere":
            enter, leave = _hit_sphere(offset, local, self.half)
        else:
            enter, leave = self._hull(offset, local)
        return (enter < leave) & (leave > 1e-4) & (enter < length)

    def normals(self, points: np.ndarray) -> np.ndarray:
        """Outward unit normals [3, N] at points [3, N] on (or near) the surface."""
        offset = self.to_local(points - column(self.center))
        normals = offset - self._closest_in_core(offset)
        normals /= np.maximum(length(normals), 1e-12)
        return self.to_world(normals)

    def _closest_in_core(self, offset: np.ndarray) -> np.ndarray:
        core = np.float32(self.half - self.edge_radius)
        if self.shape == "sphere":
            return np.zeros_like(offset)
        if self.shape == "cube":
            return np.clip(offset, -core, core)
        radius = np.sqrt(offset[0] ** 2 + offset[1] ** 2)
        scale = core / np.maximum(radius, core)
        return np.stack([offset[0] * scale, offset[1] * scale, np.clip(offset[2], -core, core)])

    def _hull(self, offset: np.ndarray, local: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where rays enter and leave the same solid with sharp edges."""
        half = np.float32(self.half)
        if self.shape == "cube":
            slabs = [_hit_slab(offset[i], local[i], half) for i in range(3)]
            enter = np.maximum(np.maximum(slabs[0][0], slabs[1][0]), slabs[2][0])
            leave = np.minimum(np.minimum(slabs[0][1], slabs[1][1]), slabs[2][1])
            return enter, leave
        enter, leave = _hit_sphere(offset[:2], local[:2], self.half)
        low, high = _hit_slab(offset[2], local[2], half)
        return np.maximum(enter, low), np.minimum(leave, high)

    def _newton(self, offset: np.ndarray, local: np.ndarray, start: np.ndarray) -> np.ndarray:
        edge = np.float32(self.edge_radius)
        tolerance = np.float32(self.half * _TOLERANCE)
        hits = np.full(len(start), np.inf, dtype=np.float32)
        active = np.arange(len(start))
        t = start.copy()
        for _ in range(_NEWTON_STEPS):
            points = offset + t * local
            outward = points - self._closest_in_core(points)
            distance = length(outward)
            excess = distance - edge
            slope = dot(outward, local) / np.maximum(distance, 1e-12)
            done = excess < tolerance
            hits[active[done]] = t[done]
            going = ~done & (slope < 0)
            if not going.any():
                return hits
            active, local = active[going], local[:, going]
            offset = offset[:, going] if offset.shape[1] > 1 else offset
            t = t[going] - excess[going] / slope[going]
        return hits


def _hit_slab(
    offset: np.ndarray, direction: np.ndarray, half: np.float32
) -> tuple[np.ndarray, np.ndarray]:
    # A zero direction gives infinities of the right signs; exactly on a face it would be NaN.
    inverse = 1.0 / np.where(np.abs(direction) < 1e-12, np.float32(1e-12), direction)
    middle = -offset * inverse
    reach = half * np.abs(inverse)
    return middle - reach, middle + reach


def _hit_sphere(
    offset: np.ndarray, direction: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Entry and exit of a sphere (three coordinates) or an upright infinite cylinder (two)."""
    a = np.maximum(dot(direction, direction), np.float32(1e-12))
    b = dot(offset, direction) / a
    # The distance of the line from the centre, computed from the closest point: the textbook
    # discriminant would lose the digits that decide the outline in float32.
    closest = offset - b * direction
    quarter = (np.float32(radius) ** 2 - dot(closest, closest)) / a
    missed = quarter < 0
    root = np.sqrt(np.where(missed, 0, quarter))
    enter = np.where(missed, np.float32(np.inf), -b - root)
    leave = np.where(missed, np.float32(-np.inf), -b + root)
    return enter, leave
