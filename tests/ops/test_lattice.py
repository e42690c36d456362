"""Every so many-th pixel."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slotseg.ops.lattice import Lattice


@settings(max_examples=50, deadline=None)
@given(height=st.integers(1, 9), width=st.integers(1, 9), step=st.integers(1, 4))
def test_all_starts_together_take_every_pixel_once(height, width, step):
    numbers = torch.arange(height * width).view(1, height, width)
    seen = [
        Lattice((height, width), step, top, left).take(numbers).flatten()
        for top in range(min(step, height))
        for left in range(min(step, width))
    ]
    assert all(len(part) for part in seen)
    assert torch.cat(seen).sort().values.tolist() == list(range(height * width))


def test_starts_come_from_the_generator_and_cover_all():
    torch.manual_seed(0)
    drawn = {(x.top, x.left) for x in (Lattice.random((8, 8), 2) for _ in range(40))}
    assert drawn == {(0, 0), (0, 1), (1, 0), (1, 1)}
    torch.manual_seed(7)
    first = Lattice.random((8, 8), 4)
    torch.manual_seed(7)
    assert Lattice.random((8, 8), 4) == first
    small = Lattice.random((1, 8), 4)
    assert small.top == 0
