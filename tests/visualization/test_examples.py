"""The images that a report shows, and their panels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from slotseg.evaluation import ImageScore
from slotseg.visualization import Example, choose_images, draw_example_grid, example_panels
from slotseg.visualization.palette import BACKGROUND, VOID


def scored(*values: float) -> list[ImageScore]:
    return [
        ImageScore(str(i), f"{i}.png", 8, 8, "decoder", 1, {"ARI": value})
        for i, value in enumerate(values)
    ]


def chosen(images: list[ImageScore], count: int, **kwargs) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for group, image in choose_images(images, count, **kwargs):
        groups.setdefault(group, []).append(image.image_id)
    return groups


def test_best_median_worst_and_random_in_equal_parts_and_none_twice():
    images = scored(*np.linspace(0, 1, 21))
    groups = chosen(images, 8)
    assert groups["best"] == ["20", "19"]
    assert groups["worst"] == ["0", "1"]
    assert set(groups["median"]) <= {"9", "10", "11"}
    assert list(groups) == ["best", "median", "worst", "random"]
    everything = [name for names in groups.values() for name in names]
    assert len(everything) == len(set(everything)) == 8
    assert chosen(images, 8) == groups
    assert chosen(images, 8, seed=5)["random"] != groups["random"]


def test_few_images_are_all_shown_once():
    for count in (1, 2, 3, 5, 99):
        groups = chosen(scored(0.5, 0.1, 0.9), count)
        names = [name for group in groups.values() for name in group]
        assert len(names) == len(set(names)) == min(count, 3)
    assert chosen(scored(0.5, 0.1, 0.9), 2) == {"best": ["2"], "worst": ["1"]}
    assert choose_images([], 4) == []


def test_images_without_a_score_are_only_drawn_at_random():
    groups = chosen(scored(0.5, math.nan, 0.2, math.nan), 4)
    assert sorted(groups.pop("random")) == ["1", "3"]
    assert groups == {"best": ["0"], "worst": ["2"]}


def example(**kwargs) -> Example:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    prediction = np.zeros((8, 8), int)
    prediction[:, 4:] = 2
    masks = np.stack([prediction == slot for slot in range(3)]).astype(np.float32)
    return Example("x.png", image, prediction, masks, **kwargs)


def test_panels_as_far_as_there_are_any():
    panels, slots = example_panels(example())
    assert [panel.label for panel in panels] == ["image", "prediction"]
    assert [slot.label for slot in slots] == ["slot 0: 50.0%", "slot 1: unused", "slot 2: 50.0%"]
    assert [slot.unused for slot in slots] == [False, True, False]
    full = example(
        truth=np.zeros((8, 8), int), drawn={"reconstruction": np.zeros((8, 8, 3), np.uint8)}
    )
    labels = [panel.label for panel in example_panels(full)[0]]
    assert labels == ["image", "truth", "prediction", "reconstruction"]


def test_colours_follow_the_truth_and_unassigned_pixels_are_black():
    truth = np.zeros((8, 8), int)
    truth[:, 4:] = 1
    shown = example(truth=truth)
    shown.prediction[0, 0] = -1
    panels, slots = example_panels(shown)
    _, truth_panel, prediction_panel = panels
    assert np.array_equal(truth_panel.picture[1:], prediction_panel.picture[1:])
    assert prediction_panel.picture[0, 0].tolist() == list(VOID)
    assert slots[0].color == BACKGROUND
    assert slots[2].color == tuple(truth_panel.picture[0, 7].tolist())


def test_grid_has_a_row_an_example():
    grid = draw_example_grid([example(), example()], side=16)
    assert grid.shape == (2 * 16 + 8, 5 * 16 + 4 * 8, 3)
    with pytest.raises(ValueError, match="as many panels"):
        draw_example_grid([example(), example(truth=np.zeros((8, 8), int))], side=16)
    with pytest.raises(ValueError, match="grid needs"):
        draw_example_grid([])
