import torch

from slotseg.ops.similarity import mean_pairwise_cosine


def test_orthogonal_slots_score_zero_and_parallel_ones_one():
    slots = torch.stack([torch.eye(4), torch.ones(4, 4) * torch.arange(1, 5).view(4, 1)])
    torch.testing.assert_close(mean_pairwise_cosine(slots), torch.tensor([0.0, 1.0]))


def test_opposite_slots_count_as_similar():
    slots = torch.tensor([[[1.0, 0.0], [-2.0, 0.0]]])
    torch.testing.assert_close(mean_pairwise_cosine(slots), torch.tensor([1.0]))


def test_hand_computed_mean():
    # Pairs: (x, y) 0, (x, x+y) 1/sqrt 2, (y, x+y) 1/sqrt 2.
    slots = torch.tensor([[[1.0, 0.0], [0.0, 3.0], [2.0, 2.0]]])
    torch.testing.assert_close(mean_pairwise_cosine(slots), torch.tensor([2 / 3 / 2**0.5]))


def test_a_single_slot_has_no_pairs():
    assert mean_pairwise_cosine(torch.randn(3, 1, 5)).tolist() == [0.0, 0.0, 0.0]


def test_half_precision_is_computed_in_float32():
    assert mean_pairwise_cosine(torch.randn(1, 3, 8).bfloat16()).dtype == torch.float32
