"""The ground, which curves upwards into a wall behind the objects.

The height of the published scene's backdrop grows along one horizontal direction only. A cubic in
the logarithm fits its mesh to 9 % of the height from the origin to the top. The fit is convex, so
that Newton's method, started behind the surface, comes back to it from one side.
"""

from __future__ import annotations

import numpy as np

#: Horizontal direction in which the backdrop rises.
RISE = np.array([-0.9032, 0.4292, 0.0], dtype=np.float32)
#: The ground begins here, below the camera, and is this wide to both sides: metal shows its edges.
_BEGIN = np.float32(-9.47)
_WIDTH = np.float32(28.0)
#: The wall ends here (distance along RISE), about 25 units high.
_END = np.float32(18.0)
#: The ground is flat to 2 % of a small object's height up to here: every object stands on it.
_FLAT = np.float32(2.5)


def height(along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Height of the backdrop, and its slope, at a distance along :data:`RISE` from the origin."""
    u = (np.minimum(along, _END + 1) - np.float32(10.0)) / np.float32(8.0)
    value = np.exp(((0.86001 * u + 0.64802) * u + 2.91856) * u - 1.24023).astype(np.float32)
    slope = value * ((2.58003 * u + 1.29604) * u + 2.91856) / np.float32(8.0)
    return value, slope.astype(np.float32)


def intersect(origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Parameter of the hit of each ray, float32 [N]; infinite for rays that escape.

    Args:
        origins: float32 [3, N] or [3, 1], in front of the backdrop.
        directions: float32 [3, N].
    """
    rate = RISE[0] * directions[0] + RISE[1] * directions[1]
    start = RISE[0] * origins[0] + RISE[1] * origins[1]
    fall = -directions[2]
    infinite = np.float32(np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        plane = np.where(fall > 1e-6, np.maximum(origins[2], 0) / fall, infinite)
        wall = np.where(rate > 1e-6, (_END - start) / rate, infinite)
    hits = np.minimum(plane, wall)
    side = RISE[0] * directions[1] - RISE[1] * directions[0]
    middle = RISE[0] * origins[1] - RISE[1] * origins[0]
    with np.errstate(invalid="ignore"):
        along = start + hits * rate
        beyond = (along < _BEGIN) | ~(np.abs(middle + hits * side) < _WIDTH)
        hits[beyond] = infinite
        # On the flat part the plane is the answer; elsewhere it lies behind the surface.
        (curved,) = np.nonzero(~beyond & (along > _FLAT))
    if len(curved):
        z = origins[2] if origins.shape[1] == 1 else origins[2, curved]
        s = start if origins.shape[1] == 1 else start[curved]
        t, dz, ds = hits[curved], directions[2, curved], rate[curved]
        for _ in range(8):
            value, slope = height(s + t * ds)
            gap = z + t * dz - value
            step = gap / np.minimum(dz - slope * ds, -1e-4)
            t = np.maximum(t - step, 0)
            if np.abs(step).max() < 1e-3:
                break
        # Rays above the wall's top start in front of it and escape.
        value, _ = height(s + t * ds)
        escaped = (s + t * ds > _END + 0.5) | (np.abs(z + t * dz - value) > 0.05 * (1 + value))
        hits[curved] = np.where(escaped, infinite, t)
    return hits


def normals(points: np.ndarray) -> np.ndarray:
    """Unit normals [3, N] that face the scene."""
    _, slope = height(RISE[0] * points[0] + RISE[1] * points[1])
    length = 1.0 / np.sqrt(1 + slope * slope)
    return np.stack([-RISE[0] * slope * length, -RISE[1] * slope * length, length])
