"""Colours are stable and far apart."""

from __future__ import annotations

import numpy as np

from slotseg.visualization.palette import BACKGROUND, _oklab, segment_colors


def test_a_number_keeps_its_colour_whatever_the_length():
    long = segment_colors(50)
    assert long.shape == (50, 3)
    for count in (0, 1, 11, 32):
        assert np.array_equal(segment_colors(count), long[:count])


def test_callers_cannot_spoil_the_palette():
    segment_colors(4)[:] = 0
    assert segment_colors(4).any()


def test_colours_of_a_dozen_slots_are_far_apart_and_from_the_background():
    lab = _oklab(np.concatenate([[BACKGROUND], segment_colors(12)]))
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=2) + 9 * np.eye(13)
    # A just noticeable difference is about 0.02.
    assert distance.min() > 0.1


def test_oklab_of_white_and_grey():
    white, grey = _oklab(np.array([[255, 255, 255], [119, 119, 119]]))
    assert np.allclose(white, [1, 0, 0], atol=1e-4)
    assert np.allclose(grey[1:], 0, atol=1e-4)
