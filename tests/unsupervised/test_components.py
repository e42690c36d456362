"""Regions of equal labels, against scipy one label at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from slotseg.unsupervised import connected_components


def test_numbers_follow_the_first_pixel_and_corners_do_not_touch():
    labels = np.array([[5, 5, -1, 5], [2, 5, -1, 2], [2, 2, 5, 2]])
    expected = [[1, 1, 0, 2], [3, 1, 0, 4], [3, 3, 5, 4]]
    assert connected_components(labels).tolist() == expected


def test_nothing_is_no_region():
    assert connected_components(np.full((3, 4), -1)).sum() == 0
    assert connected_components(np.zeros((1, 1), int)).tolist() == [[1]]


@given(arrays(np.int64, (7, 9), elements=st.integers(-1, 3)))
def test_the_regions_are_those_of_each_label(labels):
    found = connected_components(labels)
    assert ((found > 0) == (labels >= 0)).all()
    total = 0
    for value in range(4):
        regions, count = ndimage.label(labels == value)
        total += count
        inside = labels == value
        pairs = set(zip(regions[inside].tolist(), found[inside].tolist(), strict=True))
        assert len(pairs) == count == len({pair[1] for pair in pairs})
    assert found.max() == total
