"""Panoptic maps in class colours."""

from __future__ import annotations

import numpy as np
from detectron2.data import Metadata

from slotseg.visualization.overlays import draw_segments
from slotseg.visualization.palette import instance_shade
from slotseg.visualization.panoptic_examples import (
    PanopticExample,
    Segments,
    class_legend,
    draw_panoptic_map,
    panoptic_panels,
)

COLORS = [[10, 200, 30], [0, 0, 142], [250, 170, 30]]
NAMES = ["grass", "car", "light"]
METADATA = Metadata(
    thing_classes=NAMES, stuff_classes=NAMES, thing_colors=COLORS, stuff_colors=COLORS
)
CAR = {"category_id": 1, "isthing": True}


def street():
    """Grass, two cars side by side, and a hole."""
    ids = np.full((12, 20), 500_000)
    ids[4:8, 2:8] = 7
    ids[4:8, 8:14] = 9
    ids[0] = 0
    info = [{"id": 500_000, "category_id": 0, "isthing": False}, {"id": 7, **CAR}, {"id": 9, **CAR}]
    return Segments(ids, info)


def test_classes_have_their_colours_and_things_shades_and_outlines():
    picture = draw_panoptic_map(street(), METADATA)
    assert (picture[0] == 0).all()
    assert picture[10, 10].tolist() == COLORS[0]
    assert picture[5, 4].tolist() == COLORS[1]
    other = picture[5, 10]
    assert other.tolist() != COLORS[1]
    # Still blue.
    assert other.argmax() == 2
    # Outlines lie inside things, where another segment begins.
    assert (picture[4:8, 7] == 255).all()
    assert (picture[7, 2:14] == 255).all()
    assert (picture[8] != 255).any(-1).all()


def test_segments_that_are_listed_but_absent_or_present_but_not_listed_do_no_harm():
    segments = street()
    picture = draw_panoptic_map(
        Segments(segments.ids, [*segments.info[:2], {"id": 3, **CAR}]), METADATA
    )
    assert (picture[5, 10] == 0).all()


def test_panels_and_legend_of_an_example():
    example = PanopticExample("a.png", np.zeros((12, 20, 3), np.uint8), street(), METADATA)
    assert [panel.label for panel in panoptic_panels(example)] == ["image", "prediction"]
    assert class_legend([example]) == [("grass", tuple(COLORS[0])), ("car", tuple(COLORS[1]))]
    assert class_legend([]) == []


def test_shades_differ_and_stay_colours():
    shades = np.stack([instance_shade(np.array(COLORS[1]), number) for number in range(40)])
    assert shades[0].tolist() == COLORS[1]
    assert (shades >= 0).all()
    assert (shades <= 255).all()
    assert len(np.unique(shades.round(), axis=0)) == 40
    # One after the other they are told apart at a glance.
    assert np.abs(np.diff(shades[:8], axis=0)).sum(1).min() > 40


def test_things_of_one_class_are_drawn_in_different_shades_with_the_names_of_classes():
    segments = street()
    image = np.full((12, 20, 3), 128, np.uint8)
    picture = draw_segments(
        image, segments.ids, segments.info, metadata=METADATA, alpha=1.0, min_side=120
    )
    assert picture.shape == (120, 200, 3)
    # Left corners of the two cars, away from their labels.
    first, second = picture[76, 24].astype(int), picture[76, 134].astype(int)
    assert np.abs(first - second).max() > 15
