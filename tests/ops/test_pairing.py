"""Pairs of masks by overlap."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slotseg.errors import NonFiniteLossError
from slotseg.ops.pairing import pair_by_overlap

several = settings(max_examples=20)
sizes = given(seed=st.integers(0, 2**16), batch=st.integers(1, 3), count=st.integers(1, 6))


def soft_masks(seed, batch, count, pixels=12):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, count, pixels, generator=generator).mul(3).softmax(dim=1)


def test_overlaps_and_pairs_by_hand():
    # Of 4 pixels the first set has {0, 1} and {2, 3}, the second {1, 2, 3} and {0}.
    masks = torch.tensor([[[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]])
    others = torch.tensor([[[0.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]]])
    partner, overlap = pair_by_overlap(masks, others)
    assert partner.tolist() == [[1, 0]]
    # One of the two pixels that either has, and two of three.
    torch.testing.assert_close(overlap, torch.tensor([[1 / 2, 2 / 3]]))


def test_the_best_sum_counts_not_the_best_single_pair():
    # Greedy would take (0, 0) at 0.8 and leave (1, 1) at 0; crossed they are 0.6 + 0.75.
    masks = torch.tensor([[[1.0, 1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0, 0.0]]])
    others = torch.tensor([[[1.0, 1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0]]])
    assert pair_by_overlap(masks, others).partner.tolist() == [[0, 1]]
    others[0, 1, :4] = torch.tensor([1.0, 1.0, 0.0, 1.0])
    # (0, 0) 4/5 + (1, 1) 2/4 against (0, 1) 3/4 + (1, 0) 3/5.
    partner, overlap = pair_by_overlap(masks, others)
    assert partner.tolist() == [[1, 0]]
    torch.testing.assert_close(overlap, torch.tensor([[3 / 4, 3 / 5]]))


def test_sets_of_different_sizes_leave_some_over():
    masks = torch.eye(3)[None]
    partner, overlap = pair_by_overlap(masks, masks[:, [2, 0]])
    assert partner.tolist() == [[1, -1, 0]]
    assert overlap.tolist() == [[1.0, 0.0, 1.0]]
    assert pair_by_overlap(masks[:, :2], masks).partner.tolist() == [[0, 1]]


@several
@sizes
def test_a_set_is_paired_with_itself_whatever_the_order(seed, batch, count):
    masks = soft_masks(seed, batch, count)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    partner, overlap = pair_by_overlap(masks, masks[:, order])
    assert torch.equal(order[partner], torch.arange(count).expand(batch, -1))
    torch.testing.assert_close(overlap, torch.ones(batch, count))


def test_empty_masks_overlap_nothing():
    partner, overlap = pair_by_overlap(torch.zeros(1, 2, 4), torch.zeros(1, 2, 4))
    assert sorted(partner[0].tolist()) == [0, 1]
    assert overlap.tolist() == [[0.0, 0.0]]


def test_masks_that_are_not_finite_are_refused():
    masks = torch.ones(1, 2, 3)
    with pytest.raises(NonFiniteLossError, match=r"not finite; lower SOLVER\.BASE_LR"):
        pair_by_overlap(masks, masks * float("nan"))
