"""The strongest mask of every pixel."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from slotseg.ops import competition
from slotseg.ops.competition import bilinear, compete, full_size_chunks


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 200))
def test_chunks_change_nothing(seed, masks, values_at_once):
    generator = torch.Generator().manual_seed(seed)
    soft = torch.randn(masks, 4, 5, generator=generator).sigmoid()
    scores = torch.rand(masks, generator=generator)
    full = F.interpolate(soft[None], (7, 8), mode="bilinear", align_corners=False)[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(competition, "_VALUES_AT_ONCE", values_at_once)
        found = compete(soft, (7, 8), scores=scores, threshold=0.5)
    winner = (full * scores[:, None, None]).argmax(dim=0)
    assert torch.equal(found.winner, winner)
    assert torch.equal(found.inside, full.gather(0, winner[None])[0] >= 0.5)
    assert torch.equal(found.areas, (full >= 0.5).sum(dim=(1, 2)))


def test_of_equals_the_first_wins(monkeypatch):
    monkeypatch.setattr(competition, "_VALUES_AT_ONCE", 8)
    assert compete(torch.ones(5, 2, 2), (2, 2)).winner.eq(0).all()


def test_negative_values_compete_too():
    assert compete(torch.tensor([[[-3.0]], [[-2.0]]]), (1, 1)).winner.item() == 1


def test_no_more_than_the_allowed_values_are_made_at_once():
    sizes = [len(full) for _, full in full_size_chunks(torch.rand(5, 2, 4), (1024, 2048))]
    assert sizes == [2, 2, 1]
    assert [len(full) for _, full in full_size_chunks(torch.rand(5, 2, 4), (4, 8))] == [5]


def test_a_size_of_their_own_is_kept():
    masks = torch.rand(2, 3, 4)
    assert bilinear(masks, (3, 4)) is masks
