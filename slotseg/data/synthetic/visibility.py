"""Which object each camera ray meets first."""

from __future__ import annotations

import numpy as np

from slotseg.data.synthetic.camera import Camera
from slotseg.data.synthetic.shapes import Solid
from slotseg.data.synthetic.vectors import column


def object_ids(
    solids: list[Solid],
    camera: Camera,
    window: tuple[float, float, float, float],
    grid_size: tuple[int, int],
    rays: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Trace one ray through every cell of a grid over a window of the frame.

    Args:
        solids: objects of the scene.
        camera: where the rays start.
        window: (left, top, width, height) in frame pixels.
        grid_size: rows and columns.
        rays: ``camera.rays(window, grid_size)`` if the caller has it already.

    Returns:
        ids: uint8 [rows, columns], 0 where no object is hit, i for ``solids[i - 1]``.
        depth: float32 [rows, columns], along the view axis; infinite where no object is hit.
    """
    rays = camera.rays(window, grid_size) if rays is None else rays
    origin = column(camera.position)
    ids = np.zeros(grid_size, dtype=np.uint8)
    depth = np.full(grid_size, np.inf, dtype=np.float32)
    for index, solid in enumerate(solids, start=1):
        box = _screen_box(solid, camera, window, grid_size)
        if box is None:
            continue
        inside = rays[:, box[0], box[1]]
        hits = solid.intersect(origin, inside.reshape(3, -1)).reshape(inside.shape[1:])
        nearer = hits < depth[box]
        depth[box] = np.where(nearer, hits, depth[box])
        ids[box] = np.where(nearer, np.uint8(index), ids[box])
    return ids, depth


def _screen_box(
    solid: Solid,
    camera: Camera,
    window: tuple[float, float, float, float],
    grid_size: tuple[int, int],
) -> tuple[slice, slice] | None:
    """Rows and columns of the grid that the solid's bounding box can reach; None if there are none.

    The eight corners of a box around a convex solid enclose its picture, as long as all of them lie
    in front of the camera, which stands far outside the area where objects are placed.
    """
    spread = solid.half * (np.sqrt(2) if solid.shape == "cube" else 1.0)
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    corners = solid.center + signs * (spread, spread, solid.half)
    points = camera.project(corners)
    if points[:, 2].min() <= 0:
        return slice(None), slice(None)
    left, top, width, height = window
    rows, columns = grid_size
    x = (points[:, 0] - left) * (columns / width)
    y = (points[:, 1] - top) * (rows / height)
    # A cell is hit when its centre, half a cell in, lies inside.
    first_row, last_row = max(int(np.ceil(y.min() - 0.5)), 0), min(int(y.max() + 0.5), rows)
    first_col, last_col = max(int(np.ceil(x.min() - 0.5)), 0), min(int(x.max() + 0.5), columns)
    if first_row >= last_row or first_col >= last_col:
        return None
    return slice(first_row, last_row), slice(first_col, last_col)
