from __future__ import annotations

import numpy as np
import pytest

from slotseg.data.synthetic.lights import AreaLight, Light, Sun, clevr_lights, visible_fraction
from slotseg.data.synthetic.shapes import SHAPES, Solid

AREA, SUN = (
    AreaLight(np.array([2.0, 1.0, 5.0]), 1.0, np.ones(3, dtype=np.float32)),
    Sun(np.array([0.36, 0.48, 0.8]), 0.1, np.ones(3, dtype=np.float32)),
)


def fraction(light: Light, points: np.ndarray, solids: list[Solid], **changes) -> np.ndarray:
    to_light, distance, _ = light.illuminate(points)
    count = points.shape[1]
    arguments = {
        "asking": np.ones(count, dtype=bool),
        "owners": np.zeros(count, dtype=np.uint8),
        "rng": np.random.default_rng(0),
        **changes,
    }
    return visible_fraction(light, points, to_light, distance, solids=solids, **arguments)


def ground(half: float, cells: int) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(-half, half, cells), np.linspace(-half, half, cells))
    return np.stack([x.ravel(), y.ravel(), np.zeros(x.size)]).astype(np.float32)


@pytest.mark.parametrize("light", [AREA, SUN], ids=["area", "sun"])
@pytest.mark.parametrize("shape", SHAPES)
def test_shadows_agree_with_many_random_rays(light: Light, shape: str) -> None:
    solid = Solid(shape, np.array([0.2, -0.1, 0.7]), 0.7, 0.4)
    points = ground(2.5, 24)
    points = points[:, np.hypot(points[0] - 0.2, points[1] + 0.1) > 1.0]
    seen = fraction(light, points, [solid])
    rng = np.random.default_rng(1)
    u, v = rng.random((2, 1500, points.shape[1]), dtype=np.float32)
    rays = light.sample_rays(points, u, v)
    blocked = solid.blocks(points[:, None, :], rays, 1.0 if light is AREA else np.inf)
    expected = 1 - blocked.mean(0)
    assert (expected < 0.02).any() and (expected > 0.98).any()
    assert ((expected > 0.2) & (expected < 0.8)).any()
    # Sixteen samples, one in each cell of a grid.
    assert np.abs(seen - expected).max() < 0.3
    assert np.abs(seen - expected).mean() < 0.01
    np.testing.assert_array_equal(seen[expected == 1], 1)


def test_objects_do_not_shade_themselves_nor_points_that_do_not_ask() -> None:
    solid = Solid("sphere", np.array([0, 0, 0.7]), 0.7, 0.0)
    points = ground(0.2, 3)
    assert (fraction(AREA, points, [solid]) == 0).all()
    assert (fraction(AREA, points, [solid], owners=np.ones(9, dtype=np.uint8)) == 1).all()
    assert (fraction(AREA, points, [solid], asking=np.zeros(9, dtype=bool)) == 1).all()


def test_shadows_of_two_objects_add_up() -> None:
    one = Solid("cube", np.array([0.4, 0.0, 0.5]), 0.5, 0.2)
    other = Solid("cylinder", np.array([-0.8, 0.3, 0.35]), 0.35, 0.0)
    points = ground(2.5, 30)
    both = fraction(AREA, points, [one, other])
    single = np.minimum(fraction(AREA, points, [one]), fraction(AREA, points, [other]))
    assert (both <= single).all()
    assert (both < 1).sum() > (fraction(AREA, points, [one]) < 1).sum()


def test_what_lies_behind_a_lamp_casts_no_shadow() -> None:
    above = Solid("sphere", AREA.center * 1.4, 0.7, 0.0)
    assert (fraction(AREA, ground(2, 9), [above]) == 1).all()


def test_area_light_falls_off_with_the_square_and_the_cosine() -> None:
    light = AreaLight(np.array([0.0, 0.0, 4.0]), 0.5, np.ones(3, dtype=np.float32))
    points = np.array([[0, 0, 0], [0, 0, -4], [4, 0, 0], [0, 0, 5]], dtype=np.float32).T
    _, distance, solid_angle = light.illuminate(points)
    np.testing.assert_allclose(distance, [4, 8, np.sqrt(32), 1], rtol=1e-6)
    expected = 0.25 / 16
    cosine = np.sqrt(0.5)
    np.testing.assert_allclose(
        solid_angle, [expected, expected / 4, expected / 2 * cosine, 0], rtol=1e-5
    )


def test_published_lamps() -> None:
    offsets = np.zeros((3, 3))
    offsets[1, 2] = 1.0
    key, fill, back, sun = clevr_lights(offsets)
    assert fill.center[2] == pytest.approx(4.011225)
    # Power of a Lambertian emitter: radiance x area x pi.
    powers = [float(light.radiance.max()) * light.size**2 * np.pi for light in (key, fill, back)]
    assert powers == pytest.approx([78.54, 23.56, 39.27], rel=1e-3)
    assert float(sun.radiance[0]) * sun.solid_angle == pytest.approx(0.45, rel=1e-4)
    assert np.linalg.norm(sun.direction) == pytest.approx(1, abs=1e-4)
