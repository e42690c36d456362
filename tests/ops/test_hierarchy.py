import pytest
import torch

from slotseg.ops.hierarchy import parent_masks


def test_a_parents_mask_is_the_sum_of_its_sub_slots():
    masks = torch.arange(12.0).view(3, 2, 2)
    upper = parent_masks(masks, torch.tensor([1, 0, 1]), 3)
    assert torch.equal(upper[0], masks[1])
    assert torch.equal(upper[1], masks[0] + masks[2])
    assert torch.equal(upper[2], torch.zeros(2, 2))


def test_batches_and_gradients():
    masks = torch.rand(5, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    parent_of = torch.tensor([0, 0, 1, 1])
    upper = parent_masks(masks, parent_of, 2)
    assert upper.shape == (5, 2, 3, 2)
    assert upper.dtype == torch.float64
    torch.testing.assert_close(upper[3], parent_masks(masks[3], parent_of, 2))
    upper[:, 0].sum().backward()
    assert torch.equal(masks.grad.sum((0, 2, 3)), torch.tensor([30.0, 30.0, 0.0, 0.0]).double())


def test_every_mask_needs_a_parent():
    with pytest.raises(ValueError, match="3 masks need as many parents"):
        parent_masks(torch.rand(3, 2, 2), torch.tensor([0, 1]), 2)
