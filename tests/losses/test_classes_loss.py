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


def test_reserved_slots_take_their_class_and_nothing_else():
    # Classes 0 and 2 are stuff with slots 0 and 1; things share slots 2 and 3.
    matcher = MaskMatcher(1.0, 1.0, slot_of_class=[0, -1, 1])
    truth = torch.eye(3).repeat_interleave(2, dim=1).unsqueeze(0)
    # Slot 3 fits every segment best, then slot 2.
    log_masks = torch.tensor([0.01, 0.01, 0.3, 0.68]).log().view(1, 4, 1).expand(-1, -1, 6)
    matched = matcher(log_masks, truth, ["a.png"], None, torch.tensor([[1, 1, 2]]))[0].tolist()
    assert set(matched[:2]) == {2, 3} and matched[2] == 1
    assert matcher(log_masks, truth, ["a.png"], None, torch.tensor([[0, 1, 2]])).tolist() in (
        [[0, 2, 1]], [[0, 3, 1]]
    )  # fmt: skip
    # Stuff class 2 is absent, and its slot stays empty all the same: a third thing finds no slot.
    matched = matcher(log_masks, truth, ["a.png"], None, torch.tensor([[1, 1, 1]]))[0].tolist()
    assert sorted(matched) == [-1, 2, 3]
