"""From road coordinates to pixels.

Road coordinates, in metres, follow the street: ``t`` to the right of the camera's lane, ``y`` above
the ground and ``z`` along the street. A bend and a hill are put in by the projection, so that
everything else can be laid out as if the street were straight and flat.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

#: Nothing nearer than this, in metres along the optical axis, is drawn.
NEAR = 0.6


@dataclass(frozen=True)
class StreetCamera:
    """A car's camera without lens distortion, level, looking down the street.

    Attributes:
        height: of the camera above the road, metres.
        lateral: its ``t``.
        yaw: turn to the right, radians.
        focal: focal length as a share of the image's width.
        horizon: row of the horizon as a share of the image's height.
        bend: curvature of the street, 1 / radius in metres, positive to the right.
        hill: vertical curvature, positive upwards.
    """

    height: float
    lateral: float
    yaw: float
    focal: float
    horizon: float
    bend: float
    hill: float

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """Road coordinates [..., 3] as right, up and depth of the camera, float64 [..., 3]."""
        ahead = np.maximum(points[..., 2], 0.0)
        # Beyond 120 m a street goes on along the tangent.
        far = np.minimum(ahead, 120.0)
        quadratic = 0.5 * far * far + (ahead - far) * 120.0
        x = points[..., 0] + self.bend * quadratic - self.lateral
        y = points[..., 1] + self.hill * quadratic - self.height
        z = points[..., 2]
        cosine, sine = math.cos(self.yaw), math.sin(self.yaw)
        return np.stack([cosine * x - sine * z, y, sine * x + cosine * z], axis=-1)

    def project(self, points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Camera coordinates [..., 3] as column and row, in pixels of an image (height, width)."""
        height, width = size
        scale = self.focal * width / points[..., 2]
        column = 0.5 * width + points[..., 0] * scale
        row = self.horizon * height - points[..., 1] * scale
        return np.stack([column, row], axis=-1)
