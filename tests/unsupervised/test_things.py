"""Shapes of clusters on hand-drawn maps, and the rule that tells things from stuff."""

from __future__ import annotations

import numpy as np
import pytest

from slotseg.unsupervised import ClusterShapes, ThingRule

# 0 fills the frame, 1 has a region of 4 and one of 2 pixels inside, 2 lies in a corner.
MAP = np.array(
    [
        [0, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 1, 0],
        [0, 1, 1, 0, 1, 0],
        [0, 0, 0, 0, 0, 2],
        [-1, 0, 0, 0, 2, 2],
    ]
)


def test_shapes_of_one_image():
    shapes = ClusterShapes.of_image(MAP, 4)
    assert shapes.area * 30 == pytest.approx([20, 6, 3, 0])
    assert shapes.regions.tolist() == [1, 2, 1, 0]
    assert shapes.images_with.tolist() == [1, 1, 1, 0]
    # Around a random pixel of 1: four of six times 4 pixels, two of six times 2.
    assert shapes.region_area[:3] * 30 == pytest.approx([20, (4 * 4 + 2 * 2) / 6, 3])
    assert shapes.border_share[:3] == pytest.approx([1, 0, 1])
    assert np.isnan(shapes.region_area[3]) and np.isnan(shapes.border_share[3])


def test_images_are_added():
    total = ClusterShapes.zeros(3)
    for image in (MAP, np.full((2, 2), 2), np.full((3, 3), -1)):
        total += ClusterShapes.of_image(image, 3)
    assert total.images == 3
    assert total.images_with.tolist() == [1, 1, 2]
    assert total.area[2] == pytest.approx(0.1 + 1)
    assert total.region_area[2] == pytest.approx((0.1**2 + 1) / 1.1)


@pytest.mark.parametrize(
    ("max_area", "max_border", "things"),
    [
        (0.2, 0.5, [False, True, False, False]),
        (0.2, 1.0, [False, True, True, False]),
        (0.105, 1.0, [False, False, True, False]),
        (1.0, 1.0, [True, True, True, False]),
        (0.0, 1.0, [False, False, False, False]),
    ],
)
def test_things_are_small_and_seen_whole(max_area, max_border, things):
    assert ThingRule(max_area, max_border)(ClusterShapes.of_image(MAP, 4)).tolist() == things
