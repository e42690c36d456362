from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slotseg.data.synthetic import backdrop
from slotseg.data.synthetic.shapes import EDGE_RADIUS, SHAPES, Solid


def signed_distance(solid: Solid, points: np.ndarray) -> np.ndarray:
    """Distance of points [..., 3] to the surface, in float64 and by another route than the code."""
    local = np.asarray(points, dtype=np.float64) - solid.center
    turn = solid.rotation if solid.shape == "cube" else 0.0
    x = np.cos(turn) * local[..., 0] + np.sin(turn) * local[..., 1]
    y = np.cos(turn) * local[..., 1] - np.sin(turn) * local[..., 0]
    z = local[..., 2]
    edge = solid.half * EDGE_RADIUS[solid.shape]
    core = solid.half - edge
    if solid.shape == "sphere":
        return np.sqrt(x * x + y * y + z * z) - solid.half
    if solid.shape == "cube":
        beyond = np.stack([abs(x), abs(y), abs(z)]) - core
    else:
        beyond = np.stack([np.hypot(x, y), abs(z)]) - core
    return np.linalg.norm(np.maximum(beyond, 0), axis=0) + np.minimum(beyond.max(0), 0) - edge


@st.composite
def solids_and_rays(draw: st.DrawFn) -> tuple[Solid, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    half = draw(st.sampled_from([0.35, 0.7, 0.2475]))
    solid = Solid(
        draw(st.sampled_from(SHAPES)),
        np.array([*rng.uniform(-3, 3, 2), half]),
        half,
        rng.uniform(0, 2 * np.pi),
    )
    origins = solid.center[:, None] + 8 * _unit(rng.standard_normal((3, 60)))
    targets = solid.center[:, None] + rng.uniform(-1.3, 1.3, (3, 60)) * half
    directions = (targets - origins) * rng.uniform(0.05, 2, 60)
    return solid, origins.astype(np.float32), directions.astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=0)


@given(solids_and_rays())
def test_hits_lie_on_the_surface_and_nothing_lies_before_them(case) -> None:
    solid, origins, directions = case
    hits = solid.intersect(origins, directions)
    assert hits.dtype == np.float32
    # Dense samples along each ray: up to the hit, or all the way past the solid.
    end = np.where(np.isfinite(hits), hits, 20 / np.linalg.norm(directions, axis=0))
    t = np.linspace(0, 1, 400) * (end * (1 - 1e-4))[:, None]
    along = origins.T[:, None] + t[..., None] * directions.T[:, None]
    assert signed_distance(solid, along).min() > -2e-3 * solid.half
    struck = np.isfinite(hits)
    surface = (origins + np.where(struck, hits, 0) * directions).T[struck]
    np.testing.assert_allclose(signed_distance(solid, surface), 0, atol=1e-3 * solid.half)


@given(solids_and_rays())
def test_rays_that_pass_through_hit(case) -> None:
    solid, origins, directions = case
    t = np.linspace(0, 1.5, 600) * (8 / np.linalg.norm(directions, axis=0))[:, None]
    along = origins.T[:, None] + t[..., None] * directions.T[:, None]
    inside = signed_distance(solid, along).min(1) < -5e-3 * solid.half
    assert np.isfinite(solid.intersect(origins, directions)[inside]).all()


@given(solids_and_rays())
def test_nothing_is_hit_backwards(case) -> None:
    solid, origins, directions = case
    assert not np.isfinite(solid.intersect(origins, -directions)).any()


@given(solids_and_rays())
def test_common_origin_gives_the_same_hits(case) -> None:
    solid, origins, directions = case
    one = origins[:, :1]
    np.testing.assert_array_equal(
        solid.intersect(one, directions),
        solid.intersect(np.repeat(one, directions.shape[1], axis=1), directions),
    )


@given(solids_and_rays())
def test_normals_are_the_gradient_of_the_distance(case) -> None:
    solid, origins, directions = case
    hits = solid.intersect(origins, directions)
    struck = np.isfinite(hits)
    assert struck.any()
    points = (origins[:, struck] + hits[struck] * directions[:, struck]).astype(np.float32)
    normals = solid.normals(points)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=0), 1, atol=1e-5)
    assert (np.sum(normals * directions[:, struck], axis=0) < 0.05).all()
    step = 1e-4
    gradient = np.stack(
        [
            signed_distance(solid, points.T + step * axis)
            - signed_distance(solid, points.T - step * axis)
            for axis in np.eye(3)
        ]
    ) / (2 * step)
    # All but those on the line where a flat side meets its rounded edge.
    assert np.percentile(np.linalg.norm(gradient - normals, axis=0), 90) < 0.05


@given(solids_and_rays())
def test_blocking_agrees_with_hits_but_for_the_edges(case) -> None:
    solid, origins, directions = case
    hits = solid.intersect(origins, directions)
    blocked = solid.blocks(origins, directions, np.inf)
    assert blocked[np.isfinite(hits)].all()  # sharp edges only add
    if solid.shape == "sphere":
        np.testing.assert_array_equal(blocked, np.isfinite(hits))
    nearer = np.where(np.isfinite(hits), hits, 1) * 0.5
    assert not solid.blocks(origins, directions, nearer)[np.isfinite(hits)].any()


@pytest.mark.parametrize("shape", SHAPES)
def test_bounding_radius_is_tight(shape: str) -> None:
    solid = Solid(shape, np.array([0, 0, 0.5]), 0.5, 0.3)
    rng = np.random.default_rng(0)
    directions = _unit(rng.standard_normal((3, 4000)))
    origins = (solid.center[:, None] + 4 * directions).astype(np.float32)
    hits = solid.intersect(origins, -directions.astype(np.float32))
    assert 0.97 * solid.bounding_radius < (4 - hits).max() < 1.001 * solid.bounding_radius


def test_backdrop_hits_lie_on_it_and_face_the_camera() -> None:
    rng = np.random.default_rng(0)
    origin = np.array([[7.5], [-6.5], [5.3]], dtype=np.float32)
    targets = rng.uniform((-12, -8, 0), (4, 8, 9), (500, 3)).T
    directions = (targets - origin).astype(np.float32)
    hits = backdrop.intersect(origin, directions)
    assert np.isfinite(hits).mean() > 0.95
    directions, hits = directions[:, np.isfinite(hits)], hits[np.isfinite(hits)]
    points = origin + hits * directions
    height, _ = backdrop.height(backdrop.RISE @ points)
    flat = backdrop.RISE @ points < 2.5
    np.testing.assert_allclose(points[2, flat], 0, atol=1e-3)
    np.testing.assert_allclose(points[2, ~flat], height[~flat], rtol=0.05, atol=2e-3)
    normals = backdrop.normals(points)
    assert (np.sum(normals * directions, axis=0) < 0).all()


def test_rays_above_the_wall_and_off_the_ground_escape() -> None:
    origin = np.array([[0.0], [0.0], [1.0]], dtype=np.float32)
    directions = np.array(
        [[0, 0, 1], [*(-backdrop.RISE[:2]), -0.05], [*backdrop.RISE[:2], 4]], dtype=np.float32
    ).T
    assert not np.isfinite(backdrop.intersect(origin, directions)).any()
