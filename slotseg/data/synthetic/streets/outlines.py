"""Outlines in a plane and solids made of them, from which figures and vehicles are built."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from slotseg.data.synthetic.streets.scene import Color, Face, Light, Surface, Texture

_HALF_TURN = np.linspace(-math.pi / 2, math.pi / 2, 6)
_ROUND_ENDS = np.concatenate([_HALF_TURN, _HALF_TURN + math.pi])
_ROUND_ENDS = np.stack([np.cos(_ROUND_ENDS), np.sin(_ROUND_ENDS)], axis=1)
_ROUND_ENDS.setflags(write=False)
_CIRCLES = {n: np.linspace(0, 2 * math.pi, n, endpoint=False) for n in (8, 12, 16, 20)}


def capsule(
    start: Sequence[float], end: Sequence[float], radius: float, end_radius: float | None = None
) -> np.ndarray:
    """Outline [12, 2] of a limb: a thick line with round ends."""
    end_radius = radius if end_radius is None else end_radius
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy)
    dx, dy = (dx / length, dy / length) if length else (1.0, 0.0)
    outline = _ROUND_ENDS @ np.array([[dx, dy], [-dy, dx]])
    outline[:6] = outline[:6] * end_radius + end
    outline[6:] = outline[6:] * radius + start
    return outline


def ellipse(
    center: Sequence[float], radius: float, radius_y: float | None = None, corners: int = 12
) -> np.ndarray:
    """Outline [corners, 2]."""
    angles = _CIRCLES[corners]
    radius_y = radius if radius_y is None else radius_y
    return np.stack(
        [center[0] + radius * np.cos(angles), center[1] + radius_y * np.sin(angles)], axis=1
    )


def rectangle(left: float, right: float, bottom: float, top: float) -> np.ndarray:
    """Outline [4, 2]."""
    return np.array([[left, bottom], [right, bottom], [right, top], [left, top]], float)


def blob(
    rng: np.random.Generator, center: Sequence[float], radius: float, radius_y: float, rough: float
) -> np.ndarray:
    """Irregular round outline [20, 2]; ``rough`` is the relative variation of the radius."""
    wobble = 1 + rough * rng.standard_normal(20)
    angles = _CIRCLES[20]
    return np.stack(
        [
            center[0] + radius * wobble * np.cos(angles),
            center[1] + radius_y * wobble * np.sin(angles),
        ],
        axis=1,
    )


def stand(
    outline: np.ndarray, place: Sequence[float], direction: Sequence[float] = (1.0, 0.0)
) -> np.ndarray:
    """Put outlines (along, up) [..., 2] upright at ``place`` (t, z) along a unit (t, z) direction.

    Returns:
        Road coordinates, float64 [..., 3].
    """
    points = np.empty((*outline.shape[:-1], 3))
    points[..., 0] = place[0] + outline[..., 0] * direction[0]
    points[..., 1] = outline[..., 1]
    points[..., 2] = place[1] + outline[..., 0] * direction[1]
    return points


def scaled(color: Color, factor: float) -> Color:
    """A colour made brighter or darker."""
    return (color[0] * factor, color[1] * factor, color[2] * factor)


class Solid:
    """Builder of a solid on the ground that stands at ``place`` and points along ``heading``.

    Its own coordinates: x to the right, y up, z ahead, the origin on the ground in the middle.
    Faces that look away from the camera are left out, the others are kept far to near.

    Args:
        place: (t, z) in road coordinates.
        heading: radians, 0 away from the camera, positive to the right.
        camera: (t, y) of the camera, which is at z = 0.
        light: shades the faces.
    """

    def __init__(
        self,
        place: tuple[float, float],
        heading: float,
        camera: tuple[float, float],
        light: Light,
    ) -> None:
        self.place = place
        self.cosine, self.sine = math.cos(heading), math.sin(heading)
        # The camera as the solid sees it.
        dt, dz = camera[0] - place[0], -place[1]
        self.eye = (
            self.cosine * dt - self.sine * dz,
            camera[1],
            self.sine * dt + self.cosine * dz,
        )
        self.light = light
        self.faces: list[Face] = []

    def to_road(self, points: np.ndarray) -> np.ndarray:
        """Own coordinates [..., 3] as road coordinates."""
        out = np.empty(points.shape)
        out[..., 0] = self.place[0] + self.cosine * points[..., 0] + self.sine * points[..., 2]
        out[..., 1] = points[..., 1]
        out[..., 2] = self.place[1] - self.sine * points[..., 0] + self.cosine * points[..., 2]
        return out

    def shade(self, normal: Sequence[float]) -> float:
        """Brightness of a face with this normal in own coordinates."""
        x, y, z = normal
        return self.light.shade(
            (self.cosine * x + self.sine * z, y, -self.sine * x + self.cosine * z)
        )

    def sees(self, side: str, at: float) -> bool:
        """Whether the camera sees the plane ``x = at`` ("x") or ``z = at`` ("z") from outside."""
        eye = self.eye[0] if side == "x" else self.eye[2]
        return eye > at if at > 0 else eye < at

    def extrude(
        self,
        profile: np.ndarray,
        half_widths: np.ndarray,
        colors: Sequence[Color | None],
        side_color: Color | None,
        texture: Texture = Texture.PAINT,
    ) -> None:
        """Add a solid with a side profile.

        Args:
            profile: [n, 2], z and y of the corners, counter-clockwise with z to the right.
            half_widths: [n], half the width at every corner.
            colors: one for each edge i -> i + 1; None leaves the edge open.
            side_color: of the left and right side; None leaves them open.
            texture: of all of them.
        """
        faces: list[tuple[float, Face]] = []
        following = np.roll(profile, -1, axis=0)
        next_widths = np.roll(half_widths, -1)
        for i, color in enumerate(colors):
            if color is None:
                continue
            (z0, y0), (z1, y1) = profile[i].tolist(), following[i].tolist()
            length = math.hypot(z1 - z0, y1 - y0) or 1.0
            normal = (0.0, -(z1 - z0) / length, (y1 - y0) / length)
            middle = ((y0 + y1) / 2, (z0 + z1) / 2)
            view = (self.eye[1] - middle[0]) * normal[1] + (self.eye[2] - middle[1]) * normal[2]
            if view <= 0:
                continue
            a, b = float(half_widths[i]), float(next_widths[i])
            corners = np.array([[-a, y0, z0], [a, y0, z0], [b, y1, z1], [-b, y1, z1]])
            distance = abs(self.eye[2] - middle[1]) + abs(self.eye[1] - middle[0])
            shaded = scaled(color, self.shade(normal))
            faces.append((distance, Face(self.to_road(corners)[None], shaded, texture)))
        faces.sort(key=lambda entry: -entry[0])
        self.faces.extend(face for _, face in faces)
        if side_color is None:
            return
        for side in (-1, 1):
            if self.sees("x", side * float(half_widths.max())):
                corners = np.stack([side * half_widths, profile[:, 1], profile[:, 0]], axis=1)
                shaded = scaled(side_color, self.shade((side, 0, 0)))
                self.faces.append(Face(self.to_road(corners)[None], shaded, texture))

    def decorate_side(
        self,
        outlines: np.ndarray,
        color: Color,
        half_width: float,
        top_half_width: float | None = None,
        tilt: tuple[float, float] = (0.0, 1.0),
        lit: bool = True,
    ) -> None:
        """Add outlines (z, y) [K, n, 2] on the visible side.

        ``tilt`` is the (low, high) range of y over which the half width goes to
        ``top_half_width``.
        """
        for side in (-1, 1):
            if not self.sees("x", side * half_width):
                continue
            width = np.full(outlines.shape[:-1], half_width)
            if top_half_width is not None:
                share = np.clip((outlines[..., 1] - tilt[0]) / (tilt[1] - tilt[0]), 0, 1)
                width = half_width + (top_half_width - half_width) * share
            corners = np.stack([side * width, outlines[..., 1], outlines[..., 0]], axis=-1)
            factor = self.shade((side, 0, 0)) if lit else 1.0
            self.faces.append(Face(self.to_road(corners), scaled(color, factor)))

    def decorate_end(
        self, outlines: np.ndarray, color: Color, z: float, lean: float = 0.0, lit: bool = True
    ) -> None:
        """Add outlines (x, y) [K, n, 2] on the front (``z`` > 0) or the back (``z`` < 0).

        ``lean`` moves them by so many metres in z for each metre of height.
        """
        if not self.sees("z", z):
            return
        depth = z + lean * outlines[..., 1]
        corners = np.stack([outlines[..., 0], outlines[..., 1], depth], axis=-1)
        factor = self.shade((0, 0, 1 if z > 0 else -1)) if lit else 1.0
        self.faces.append(Face(self.to_road(corners), scaled(color, factor)))

    def box(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        z: tuple[float, float],
        color: Color,
        texture: Texture = Texture.PAINT,
    ) -> None:
        """Add a cuboid."""
        if not x[0] <= self.eye[0] <= x[1]:
            right = self.eye[0] > x[1]
            at = x[1] if right else x[0]
            corners = np.array(
                [[at, y[0], z[0]], [at, y[0], z[1]], [at, y[1], z[1]], [at, y[1], z[0]]]
            )
            shaded = scaled(color, self.shade((1 if right else -1, 0, 0)))
            self.faces.append(Face(self.to_road(corners)[None], shaded, texture))
        if not z[0] <= self.eye[2] <= z[1]:
            front = self.eye[2] > z[1]
            at = z[1] if front else z[0]
            corners = np.array(
                [[x[0], y[0], at], [x[1], y[0], at], [x[1], y[1], at], [x[0], y[1], at]]
            )
            shaded = scaled(color, self.shade((0, 0, 1 if front else -1)))
            self.faces.append(Face(self.to_road(corners)[None], shaded, texture))
        if self.eye[1] > y[1]:
            corners = np.array(
                [[x[0], y[1], z[0]], [x[1], y[1], z[0]], [x[1], y[1], z[1]], [x[0], y[1], z[1]]]
            )
            shaded = scaled(color, self.shade((0, 1, 0)))
            self.faces.append(Face(self.to_road(corners)[None], shaded, texture))


def facing(place: tuple[float, float], camera_t: float) -> tuple[float, float]:
    """Unit (t, z) direction along which an upright plane at ``place`` faces the camera."""
    dt, dz = place[0] - camera_t, place[1]
    length = math.hypot(dt, dz) or 1.0
    return dz / length, -dt / length


def upright(
    outlines: Sequence[np.ndarray] | np.ndarray,
    color: Color,
    place: Sequence[float],
    direction: Sequence[float] = (1.0, 0.0),
    texture: Texture = Texture.NONE,
    surface: Surface = Surface.UPRIGHT,
) -> Face:
    """A face of outlines (along, up), [K, n, 2] or a list of them, that stand upright."""
    return Face(stand(np.asarray(outlines), place, direction), color, texture, surface)
