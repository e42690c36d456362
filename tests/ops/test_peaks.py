"""Peaks of maps, and centres of segments."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slotseg.ops.peaks import highest_peaks, segment_centers


def test_local_maxima_come_before_their_higher_slopes():
    scores = torch.tensor(
        [
            [0.9, 0.8, 0.1, 0.1],
            [0.8, 0.7, 0.1, 0.2],
            [0.1, 0.1, 0.1, 0.1],
            [0.3, 0.1, 0.1, 0.1],
        ]
    )
    found, index = highest_peaks(scores.unsqueeze(0), 3)
    # 0.8 and 0.7 are higher than 0.3, but beside 0.9.
    assert index.tolist() == [[0, 12, 7]]
    torch.testing.assert_close(found, torch.tensor([[0.9, 0.3, 0.2]]))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16), height=st.integers(1, 7), width=st.integers(1, 7))
def test_every_pixel_is_found_once(seed, height, width):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(2, height, width, generator=generator) + 1e-3
    found, index = highest_peaks(scores, height * width)
    assert index.sort(dim=1).values.tolist() == [list(range(height * width))] * 2
    torch.testing.assert_close(found, scores.flatten(1).gather(1, index))
    assert found[:, 0].tolist() == scores.amax(dim=(1, 2)).tolist()


def test_a_center_is_on_the_segment():
    shares = torch.zeros(1, 3, 5, 5)
    shares[0, 0, 1:4, 1:4] = 1.0
    # A ring: its centre of mass is not on it.
    shares[0, 1] = 1.0
    shares[0, 1, 1:4, 1:4] = 0.0
    # A sliver that covers no pixel enough.
    shares[0, 2, 4, 4] = 0.1
    index, exists = segment_centers(shares, least_share=0.25)
    assert exists.tolist() == [[True, True, False]]
    assert index[0, 0] == 12
    assert shares[0, 1].flatten()[index[0, 1]] == 1.0
    row, column = divmod(int(index[0, 1]), 5)
    assert (row - 2) ** 2 + (column - 2) ** 2 == 4


@pytest.mark.parametrize("shift", [(0, 0), (2, 1)])
def test_centers_move_with_the_segment(shift):
    shares = torch.zeros(1, 1, 8, 8)
    shares[0, 0, shift[0] : shift[0] + 3, shift[1] : shift[1] + 5] = 1.0
    index, _ = segment_centers(shares, least_share=0.5)
    assert divmod(int(index), 8) == (shift[0] + 1, shift[1] + 2)
