from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from slotseg.data.synthetic import clevr_scene
from slotseg.data.synthetic.camera import FRAME_SIZE, WINDOWS
from slotseg.data.synthetic.clevr_scene import (
    CAMERA_POSITION,
    COLORS,
    SIZES,
    SceneDescription,
    ground_directions,
    place_objects,
    sample_scene,
)
from slotseg.data.synthetic.visibility import object_ids


@pytest.fixture(scope="module")
def scenes() -> list[SceneDescription]:
    return [sample_scene(np.random.default_rng([7, index])) for index in range(240)]


def test_every_number_of_objects_is_equally_frequent(scenes: list[SceneDescription]) -> None:
    counts = np.bincount([len(s.objects) for s in scenes], minlength=11)
    assert counts[:3].sum() == 0 and counts[3:].sum() == len(scenes)
    expected = len(scenes) / 8
    # 99.9 % point of chi-square with 7 degrees of freedom: drawing the number again after each
    # rejection would leave few scenes of 9 and 10 and exceed it by far.
    assert ((counts[3:] - expected) ** 2 / expected).sum() < 24.3


@pytest.mark.parametrize(
    ("attribute", "values"),
    [
        ("shape", ("cube", "sphere", "cylinder")),
        ("size", tuple(SIZES)),
        ("color", tuple(COLORS)),
        ("material", ("rubber", "metal")),
    ],
)
def test_attributes_are_equally_frequent(scenes, attribute: str, values: tuple[str, ...]) -> None:
    counts = Counter(getattr(o, attribute) for s in scenes for o in s.objects)
    assert set(counts) == set(values)
    total = sum(counts.values())
    # Rejection for visibility disfavours small objects a little.
    for value in values:
        assert counts[value] / total == pytest.approx(1 / len(values), rel=0.2)


def test_positions_keep_the_published_margins(scenes: list[SceneDescription]) -> None:
    for scene in scenes:
        directions = ground_directions(scene.camera)
        for one in scene.objects:
            assert max(abs(one.position[0]), abs(one.position[1])) <= 3
            expected = SIZES[one.size] / (math.sqrt(2) if one.shape == "cube" else 1)
            assert one.position[2] == pytest.approx(expected)
        for one, other in itertools.combinations(scene.objects, 2):
            offset = np.subtract(one.position[:2], other.position[:2])
            gap = np.hypot(*offset) - one.position[2] - other.position[2]
            assert gap >= 0.25
            assert (np.abs(directions @ offset) >= 0.4 - 1e-9).all()


def test_positions_fill_the_square(scenes: list[SceneDescription]) -> None:
    x, y, _ = np.array([o.position for s in scenes for o in s.objects]).T
    for values in (x, y):
        assert abs(values.mean()) < 0.25
        assert 1.5 < values.std() < 2.0  # 1.73 for a uniform distribution
    rotations = np.array([o.rotation for s in scenes for o in s.objects])
    assert rotations.min() >= 0 and 170 < rotations.mean() < 190 and rotations.max() < 360


def test_every_object_shows_200_pixels_of_the_frame(scenes: list[SceneDescription]) -> None:
    for scene in scenes[:40]:
        solids = [o.solid for o in scene.objects]
        ids, _ = object_ids(solids, scene.camera, WINDOWS["full"], FRAME_SIZE)
        assert np.bincount(ids.ravel(), minlength=len(solids) + 1)[1:].min() >= 200


def test_camera_and_lights_jitter(scenes: list[SceneDescription]) -> None:
    camera = np.array([s.camera.position for s in scenes]) - CAMERA_POSITION
    lights = np.array([s.light_offsets for s in scenes])
    for values, reach in ((camera, 0.5), (lights, 1.0)):
        assert np.abs(values).max() <= reach and np.abs(values).max() > 0.97 * reach
        assert values.std() == pytest.approx(reach / math.sqrt(3), rel=0.06)


def test_a_scene_without_room_is_given_up(scenes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clevr_scene, "MIN_GAP", 5.0)
    rng = np.random.default_rng(0)
    assert all(place_objects(rng, 10, scenes[0].camera) is None for _ in range(5))


def test_ids_do_not_depend_on_the_screen_boxes(scenes: list[SceneDescription]) -> None:
    """Rays outside an object's box on the screen miss it."""
    grid = (60, 80)
    for scene in scenes[:10]:
        origin = scene.camera.position.astype(np.float32)[:, None]
        rays = scene.camera.rays(WINDOWS["full"], grid).reshape(3, -1)
        hits = np.stack([o.solid.intersect(origin, rays) for o in scene.objects])
        expected = np.where(np.isfinite(hits.min(0)), hits.argmin(0) + 1, 0)
        solids = [o.solid for o in scene.objects]
        ids, depth = object_ids(solids, scene.camera, WINDOWS["full"], grid)
        np.testing.assert_array_equal(ids.ravel(), expected)
        np.testing.assert_array_equal(depth.ravel(), hits.min(0))
