"""The ground: carriageway, pavements, verges, crossings, markings and tracks."""

from __future__ import annotations

import numpy as np

from slotseg.data.synthetic.streets.outlines import scaled
from slotseg.data.synthetic.streets.scene import Color, Face, Surface, Texture

NEAREST, FARTHEST = 1.2, 260.0
_MARKING: Color = (0.74, 0.74, 0.72)


def strip(
    left: float,
    right: float,
    color: Color,
    texture: Texture,
    near: float = NEAREST,
    far: float = FARTHEST,
) -> Face:
    """A strip along the street between two lateral positions."""
    near = max(near, NEAREST)
    count = 2 + int(5 * np.log(far / near))
    z = np.geomspace(near, far, count)
    z[-1] = far
    edges = np.zeros((2 * count, 3))
    edges[:count, 0], edges[:count, 2] = left, z
    edges[count:, 0], edges[count:, 2] = right, z[::-1]
    return Face(edges[None], color, texture, Surface.GROUND)


def cross_strip(
    near: float,
    far: float,
    color: Color,
    texture: Texture,
    left: float = -90.0,
    right: float = 90.0,
) -> Face:
    """A strip across the street."""
    near = max(near, NEAREST)
    corners = np.array([[left, 0, near], [right, 0, near], [right, 0, far], [left, 0, far]], float)
    return Face(corners[None], color, texture, Surface.GROUND)


def dashes(
    t: float, near: float, far: float, brightness: float, dash: float = 3.0, gap: float = 5.0
) -> Face:
    """A broken line along the street."""
    starts = np.arange(max(near, NEAREST), max(min(far, 90.0), near + dash), dash + gap)
    marks = np.zeros((len(starts), 4, 3))
    marks[:, :, 0] = np.array([t - 0.07, t + 0.07, t + 0.07, t - 0.07])
    marks[:, :2, 2] = starts[:, None]
    marks[:, 2:, 2] = starts[:, None] + dash
    return Face(marks, scaled(_MARKING, brightness), Texture.ASPHALT, Surface.GROUND)


def line(t: float, near: float, far: float, brightness: float, width: float = 0.14) -> Face:
    """A continuous line along the street."""
    color = scaled(_MARKING, brightness)
    return strip(t - width / 2, t + width / 2, color, Texture.ASPHALT, near, far)


def zebra(left: float, right: float, near: float, brightness: float) -> Face:
    """A pedestrian crossing of stripes along the street."""
    starts = np.arange(left + 0.3, right - 0.4, 1.0)
    near = max(near, NEAREST)
    marks = np.zeros((len(starts), 4, 3))
    marks[:, :, 0] = starts[:, None] + np.array([0, 0.5, 0.5, 0])
    marks[:, :2, 2] = near
    marks[:, 2:, 2] = near + 3.0
    return Face(marks, scaled(_MARKING, brightness), Texture.ASPHALT, Surface.GROUND)


def patch(points: np.ndarray, color: Color, texture: Texture = Texture.ASPHALT) -> Face:
    """A polygon (t, z) [n, 2] on the ground."""
    corners = np.zeros((len(points), 3))
    corners[:, 0], corners[:, 2] = points[:, 0], points[:, 1]
    return Face(corners[None], color, texture, Surface.GROUND)


def ground_shadow(center: tuple[float, float], radius: float, radius_z: float) -> np.ndarray:
    """Outline [1, 12, 3] of an elliptic shadow."""
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    points = np.zeros((1, 12, 3))
    points[0, :, 0] = center[0] + radius * np.cos(angles)
    points[0, :, 2] = center[1] + radius_z * np.sin(angles)
    return points


def cast_shadow(outline: np.ndarray, height: float, sun: np.ndarray) -> np.ndarray:
    """Shadow [1, 2n, 3] that a wall over the line (t, z) [n, 2] of some height casts."""
    offset = -sun[[0, 2]] / max(float(sun[1]), 0.15) * height
    points = np.zeros((1, 2 * len(outline), 3))
    points[0, : len(outline), [0, 2]] = outline.T
    points[0, len(outline) :, [0, 2]] = (outline + offset)[::-1].T
    return points
