"""A pinhole camera, and the part of its frame that an image shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Height and width, in pixels, of the frame that CLEVR with masks is published at. Focal lengths,
#: windows and the visibility rule are all expressed in pixels of this frame.
FRAME_SIZE = (240, 320)

#: Part of the frame, as (left, top, width, height) in frame pixels, that an image shows.
#: "clevr" is the crop of the Slot Attention protocol: rows 29:221, columns 64:256.
WINDOWS: dict[str, tuple[float, float, float, float]] = {
    "clevr": (64.0, 29.0, 192.0, 192.0),
    "full": (0.0, 0.0, float(FRAME_SIZE[1]), float(FRAME_SIZE[0])),
}


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Attributes:
        position: float64 [3], world units.
        axes: float64 [3, 3], rows are the unit vectors right, down and forward in the world.
        focal: focal length in pixels of the frame (the same along both image axes).
    """

    position: np.ndarray
    axes: np.ndarray
    focal: float

    @classmethod
    def look_at(cls, position: np.ndarray, target: np.ndarray, focal: float) -> Camera:
        """Return an upright camera at ``position`` that has ``target`` at the frame's centre."""
        position = np.asarray(position, dtype=np.float64)
        forward = np.asarray(target, dtype=np.float64) - position
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        return cls(position, np.stack([right, np.cross(forward, right), forward]), float(focal))

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return x, y in frame pixels and the depth along the view axis, [..., 3].

        Pixel (i, j) of the frame covers [j, j + 1) x [i, i + 1), so its centre is (j + .5, i + .5).
        """
        local = (np.asarray(points, dtype=np.float64) - self.position) @ self.axes.T
        depth = local[..., 2]
        x = FRAME_SIZE[1] / 2 + self.focal * local[..., 0] / depth
        y = FRAME_SIZE[0] / 2 + self.focal * local[..., 1] / depth
        return np.stack([x, y, depth], axis=-1)

    def rays(
        self, window: tuple[float, float, float, float], grid_size: tuple[int, int]
    ) -> np.ndarray:
        """Directions through the cell centres of a grid laid over a window of the frame.

        They are scaled to advance one unit along the view axis, so that the parameter of a hit is
        its depth.

        Args:
            window: (left, top, width, height) in frame pixels.
            grid_size: rows and columns of the grid.

        Returns:
            float32 [3, rows, columns].
        """
        left, top, width, height = window
        rows, columns = grid_size
        x = left + (np.arange(columns) + 0.5) * (width / columns) - FRAME_SIZE[1] / 2
        y = top + (np.arange(rows) + 0.5) * (height / rows) - FRAME_SIZE[0] / 2
        x, y = x.astype(np.float32), y.astype(np.float32)
        right, down, forward = self.axes.astype(np.float32)
        directions = (
            forward[:, None, None]
            + right[:, None, None] * (x / np.float32(self.focal))
            + down[:, None, None] * (y[:, None] / np.float32(self.focal))
        )
        return directions
