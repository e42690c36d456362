import math

import pytest
import torch

from slotseg.errors import DatasetError
from slotseg.losses import MaskMatcher
from slotseg.losses.classes import ClassLoss, check_categories


def test_by_hand():
    # Slot 0 answers for a segment of class 1; slot 1 is left over. Uniform logits: log 3 each.
    loss = ClassLoss(weight=2.0, no_object_weight=0.1)
    logits = torch.zeros(1, 2, 3)
    value = loss(logits, torch.tensor([[0]]), torch.tensor([[1]]), torch.ones(1, 2))
    assert value.item() == pytest.approx(2.0 * math.log(3))
    # The two terms are weighted 1 to 0.1.
    logits[0, 0, 1] = 50.0
    value = loss(logits, torch.tensor([[0]]), torch.tensor([[1]]), torch.ones(1, 2))
    assert value.item() == pytest.approx(2.0 * 0.1 * math.log(3) / 1.1)


def test_left_over_slots_on_void_are_asked_nothing():
    loss = ClassLoss(weight=1.0, no_object_weight=0.1)
    logits = torch.zeros(1, 2, 3, requires_grad=True)
    known_share = torch.tensor([[0.1, 0.2]])
    loss(logits, torch.tensor([[0]]), torch.tensor([[1]]), known_share).backward()
    assert logits.grad[0, 0].abs().sum() > 0  # matched: asked wherever it lies
    assert logits.grad[0, 1].abs().sum() == 0


def test_an_image_without_truth_costs_nothing():
    loss = ClassLoss(weight=1.0, no_object_weight=0.1)
    value = loss(
        torch.randn(1, 2, 3), torch.tensor([[-1]]), torch.tensor([[-1]]), torch.zeros(1, 2)
    )
    assert value.item() == 0.0


def test_unknown_class_names_the_file():
    with pytest.raises(DatasetError, match=r"b\.png: has class 5, but the model has 3"):
        check_categories(torch.tensor([[0, 2], [5, -1]]), 3, ["a.png", "b.png"])
    check_categories(torch.tensor([[0, 2], [1, -1]]), 3, ["a.png", "b.png"])


def test_the_class_decides_between_equal_masks():
    matcher = MaskMatcher(pixel_weight=1.0, dice_weight=1.0, class_weight=1.0)
    log_masks = torch.full((1, 2, 4), 0.5).log()
    truth = torch.tensor([[[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]])
    logits = torch.tensor([[[0.0, 5.0, 0.0], [5.0, 0.0, 0.0]]])  # slot 0: class 1, slot 1: class 0
    for categories, slots in (([0, 1], [1, 0]), ([1, 0], [0, 1])):
        matched = matcher(log_masks, truth, ["a.png"], logits, torch.tensor([categories]))
        assert matched.tolist() == [slots]
