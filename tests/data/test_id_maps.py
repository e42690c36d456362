"""Counting and numbering the ids of panoptic maps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from slotseg.data.id_maps import count_ids, number_segments
from slotseg.errors import DatasetError

SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)
# Few values, so that runs and repetitions occur, near both ends of what three bytes hold.
IDS = st.sampled_from([0, 1, 2, 255, 256, 26000, 26001, 65536, 2**24 - 1])
MAPS = arrays.arrays(np.int32, SHAPES, elements=IDS)


@given(MAPS)
def test_counts_are_those_of_sorting_all_pixels(ids):
    found, areas = count_ids(ids)
    expected, counts = np.unique(ids, return_counts=True)
    assert found.tolist() == expected.tolist() and areas.tolist() == counts.tolist()


@given(MAPS, st.randoms(use_true_random=False))
def test_every_pixel_gets_the_place_of_its_segment(ids, random):
    segments = [i for i in np.unique(ids).tolist() if i]
    random.shuffle(segments)
    numbers = number_segments(ids, segments, "a.png")
    assert numbers.dtype == np.uint8 and numbers.shape == ids.shape
    assert np.array_equal(np.array([0, *segments])[numbers], ids)


@pytest.mark.parametrize(("count", "kind"), [(255, "uint8"), (256, "uint16"), (70000, "uint32")])
def test_types_hold_the_number_of_segments(count, kind):
    ids = np.arange(1, count + 1, dtype=np.int32).reshape(1, -1)[:, ::-1].copy()
    numbers = number_segments(ids, list(range(1, count + 1)), "a.png")
    assert numbers.dtype == kind and np.array_equal(numbers, ids)


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([1, 9], r"a.png: segment id 5 \(3 pixels\) is not among the 2 listed segments"),
        ([], r"a.png: segment id 1 \(2 pixels\) is not among the 0 listed"),
        ([9, 7, 5, 1], "a.png: segment id 7 is listed, but no pixel has it; "),
        ([8, 7, 5, 1, 9], r"segment id 8 is listed, but no pixel has it \(nor 1 others\)"),
        ([1, 5, 9, 5], "a.png: its segments list id 5 twice"),
        ([1, 5, 9, 0], "a.png: its segments list segment id 0, which means void"),
    ],
)
def test_ids_that_do_not_fit_the_list(segments, message):
    ids = np.array([[0, 1, 1, 5], [5, 9, 0, 5]], np.int32)
    with pytest.raises(DatasetError, match=message) as info:
        number_segments(ids, segments, "a.png")
    assert "\n" not in str(info.value)


def test_an_empty_list_and_an_empty_map():
    assert not number_segments(np.zeros((2, 3), np.int32), [], "a.png").any()
    assert number_segments(np.zeros((0, 3), np.int32), [], "a.png").shape == (0, 3)
