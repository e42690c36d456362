"""Segments of which one is not confident count less in every loss on the truth."""

import math

import pytest
import torch

from slotseg.losses import ClassMapLoss, MaskLoss, MaskMatcher, ObjectnessLoss, TrainingStep
from slotseg.losses.classes import ClassLoss
from slotseg.losses.points import PointSampler
from slotseg.losses.uncertainty import UncertaintyLoss
from slotseg.slots import DenseGuess, InitialSlots

POINTS = PointSampler(count=64)
KINDS = {
    "softmax-ce": {"pixel_loss": "ce"},
    "softmax-bce": {"pixel_loss": "bce"},
    "sigmoid": {"pixel_loss": "bce", "independent": True},
    "softmax-ce-points": {"pixel_loss": "ce", "points": POINTS},
    "sigmoid-points": {"pixel_loss": "bce", "independent": True, "points": POINTS},
}
every_kind = pytest.mark.parametrize("kind", list(KINDS))
# Segments 0 to 2, the last a crossing of two void pixels away from the others.
MAPS = torch.tensor([[[0, 0, 0, 0], [0, 1, 1, 0], [2, 2, -1, -1], [2, 2, 0, 0]]])
CATEGORIES = torch.tensor([[0, 1, 1]])
SLOTS = 3


def judge(step_of, kind, confidence, categories=CATEGORIES):
    """Losses and the gradient of the mask logits, always of the same prediction."""
    torch.manual_seed(3)
    logits = torch.randn(1, SLOTS, 4, 4, requires_grad=True)
    classes = torch.randn(1, SLOTS, 3)
    step: TrainingStep = step_of(
        logits,
        None,
        classes,
        segment_maps=MAPS,
        segment_categories=categories,
        segment_confidence=confidence,
    )
    loss = MaskLoss(
        pixel_weight=1.0,
        dice_weight=1.0,
        attention_weight=0.5,
        matcher=MaskMatcher(1.0, 1.0, 1.0),
        classes=ClassLoss(1.0, 0.1),
        **KINDS[kind],
    )
    losses = loss(step)
    gradient = torch.autograd.grad(losses["loss_mask_pixel"] + losses["loss_mask_dice"], logits)
    return {name: value.item() for name, value in losses.items()}, gradient[0]


@every_kind
def test_full_confidence_is_as_none_at_all(step_of, kind):
    without, gradient = judge(step_of, kind, None)
    full, same = judge(step_of, kind, torch.ones(1, 3))
    assert full == without
    assert torch.equal(gradient, same)


@every_kind
def test_equal_confidence_scales_every_loss(step_of, kind):
    # As many slots as segments: nobody is left over to pay for "no object".
    without, _ = judge(step_of, kind, None)
    half, _ = judge(step_of, kind, torch.full((1, 3), 0.5))
    assert {"loss_class", "loss_attention_dice"} <= half.keys()
    assert half == {name: pytest.approx(value / 2, rel=1e-5) for name, value in without.items()}


@every_kind
def test_losses_add_up_over_segments(step_of, kind):
    without, _ = judge(step_of, kind, None)
    alone = [judge(step_of, kind, row.unsqueeze(0))[0] for row in torch.eye(3)]
    for name, value in without.items():
        assert sum(part[name] for part in alone) == pytest.approx(value, rel=1e-4), name


@pytest.mark.parametrize("kind", ["sigmoid", "sigmoid-points"])
def test_a_segment_that_nobody_believes_moves_no_mask(step_of, kind):
    _, gradient = judge(step_of, kind, torch.tensor([[1.0, 1.0, 0.0]]))
    moved = gradient.flatten(2).abs().sum(dim=2) > 0
    assert moved.sum() == SLOTS - 1


def test_left_over_slots_pay_in_full():
    loss = ClassLoss(weight=1.0, no_object_weight=0.1)
    logits = torch.zeros(1, 2, 3)
    value = loss(
        logits, torch.tensor([[0]]), torch.tensor([[1]]), torch.ones(1, 2), torch.tensor([[0.25]])
    )
    assert value.item() == pytest.approx(math.log(3) * (0.25 + 0.1) / 1.1)


def dense_step(step_of, confidence, objectness=-1.0):
    guess = DenseGuess(torch.full((1, 4, 4), objectness), torch.zeros(1, 2, 4, 4))
    return step_of(
        torch.zeros(1, 2, 4, 4),
        None,
        torch.zeros(1, 2, 3),
        initial=InitialSlots(torch.zeros(1, 2, 4), guess=guess),
        segment_maps=MAPS,
        segment_categories=CATEGORIES,
        segment_confidence=confidence,
    )


def test_objectness_of_centers_only(step_of):
    loss = ObjectnessLoss(weight=1.0, is_thing=(False, True))
    full, part = (
        loss(dense_step(step_of, confidence))["loss_objectness"].item()
        for confidence in (None, torch.tensor([[0.0, 0.25, 1.0]]))
    )
    p = 1 / (1 + math.e)
    # Of two centres one has lost three quarters.
    assert full - part == pytest.approx(0.75 * -((1 - p) ** 2) * math.log(p) / 2, rel=1e-4)


@pytest.mark.parametrize(
    ("loss", "options"),
    [(ClassMapLoss, {}), (UncertaintyLoss, {"threshold": 1.0})],
    ids=["class_map", "uncertainty"],
)
def test_classes_of_pixels(step_of, loss, options):
    values = []
    for confidence in (None, torch.ones(1, 3), torch.tensor([[1.0, 0.5, 0.0]])):
        (value,) = loss(weight=1.0, **options)(dense_step(step_of, confidence)).values()
        values.append(value.item())
    assert values[0] == values[1]
    # Uniform classes: each of the 14 known pixels pays the same; 8 are of segment 0, 2 of 1.
    assert values[2] == pytest.approx(values[0] * (8 + 0.5 * 2) / 14)
