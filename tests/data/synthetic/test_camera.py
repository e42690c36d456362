from __future__ import annotations

import numpy as np
import pytest

from slotseg.data.synthetic.camera import FRAME_SIZE, WINDOWS, Camera


@pytest.fixture
def camera() -> Camera:
    return Camera.look_at(np.array([7.5, -6.5, 5.3]), np.zeros(3), 350.0)


def test_target_is_at_the_centre_and_up_is_up(camera: Camera) -> None:
    x, y, depth = camera.project(np.zeros(3))
    assert (x, y) == pytest.approx((FRAME_SIZE[1] / 2, FRAME_SIZE[0] / 2))
    assert depth == pytest.approx(np.linalg.norm(camera.position))
    assert camera.project(np.array([0, 0, 1.0]))[1] < y
    np.testing.assert_allclose(camera.axes @ camera.axes.T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize("window", WINDOWS)
def test_a_ray_passes_through_the_point_that_projects_to_its_cell(
    camera: Camera, window: str
) -> None:
    left, top, width, height = WINDOWS[window]
    grid = (31, 40)
    rays = camera.rays(WINDOWS[window], grid)
    assert rays.dtype == np.float32
    for row, column, depth in [(0, 0, 3.0), (30, 39, 11.0), (12, 7, 8.0)]:
        point = camera.position + depth * rays[:, row, column]
        expected = (
            left + (column + 0.5) * width / grid[1],
            top + (row + 0.5) * height / grid[0],
            depth,
        )
        np.testing.assert_allclose(camera.project(point), expected, rtol=1e-4)


def test_clevr_window_is_the_usual_crop() -> None:
    left, top, width, height = WINDOWS["clevr"]
    assert (top, top + height, left, left + width) == (29, 221, 64, 256)
