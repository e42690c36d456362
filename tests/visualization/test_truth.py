"""Drawn truth: void and crowds are marked where they are, and only there."""

from __future__ import annotations

import numpy as np
import pytest
from detectron2.data import Metadata

from slotseg.visualization.truth import draw_truth

GREY = np.full((40, 60, 3), 120, np.uint8)


def classes() -> Metadata:
    metadata = Metadata()
    metadata.thing_classes = metadata.stuff_classes = ["road", "car"]
    metadata.thing_colors = metadata.stuff_colors = [(0, 200, 0), (200, 0, 0)]
    return metadata


def segments() -> np.ndarray:
    """Left third road, middle a car, right third: upper half a crowd of cars, lower half void."""
    numbers = np.zeros((40, 60), np.int64)
    numbers[:, 20:40] = 1
    numbers[:20, 40:] = 2
    numbers[20:, 40:] = -1
    return numbers


def draw(numbers: np.ndarray, **options) -> np.ndarray:
    things, crowds = [False, True, True], [False, False, True]
    options = {"categories": [0, 1, 1], "metadata": classes(), "min_side": 160, **options}
    return draw_truth(GREY, numbers, things, crowds, **options)


def test_image_and_segments_stand_side_by_side():
    picture = draw(segments())
    assert picture.shape == (160, 2 * 240 + 8, 3)
    assert (picture[:, :240] == 120).all()
    drawn = picture[:, 248:]
    # Away from outlines and names: road is greener, cars are redder than the image.
    road, car = drawn[10:20, 10:60].mean((0, 1)), drawn[10:20, 90:150].mean((0, 1))
    assert road[1] > 130 and road[0] < 110
    assert car[0] > 130 and car[1] < 110


def test_wide_images_stand_above_each_other():
    assert draw_truth(GREY[:20], segments()[:20], [0, 1, 1], [0, 0, 1], min_side=20).shape == (
        *(48, 60, 3),
    )


def test_void_is_black_with_grey_stripes():
    void = draw(segments())[90:150, 248 + 170 : 248 + 230]
    values = np.unique(void.reshape(-1, 3), axis=0)
    assert values.tolist() == [[0, 0, 0], [70, 70, 70]]
    assert 0.2 < (void > 0).mean() < 0.5


def test_crowds_have_stripes_and_things_do_not():
    drawn = draw(segments())[:, 248:]
    crowd, car = drawn[5:15, 170:235], drawn[5:15, 90:150]
    assert crowd.max(2).std() > 10 and car.std((0, 1)).max() < 1


def test_without_classes_every_segment_has_a_colour_of_its_own():
    picture = draw(segments(), categories=None, metadata=None)
    car, crowd = picture[10:20, 248 + 90 : 248 + 150], picture[10:20, 248 + 170 : 248 + 235]
    assert np.abs(car.mean((0, 1)) - crowd.mean((0, 1))).max() > 20


def test_images_without_any_segment():
    picture = draw_truth(GREY, np.full((40, 60), -1), [], [], categories=[], metadata=classes())
    assert set(np.unique(picture[:, picture.shape[1] // 2 + 8 :])) == {0, 70}


def test_sizes_and_lengths_that_differ():
    with pytest.raises(ValueError, match="do not fit the image"):
        draw(segments()[:30])
    with pytest.raises(ValueError):
        draw(segments(), categories=[0])
