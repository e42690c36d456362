"""Losses on dense maps, and the matching of slots that start at a place."""

import math
from dataclasses import replace

import pytest
import torch

from slotseg import get_cfg
from slotseg.decoders import Decoded
from slotseg.errors import ConfigError, DatasetError
from slotseg.losses import ClassMapLoss, MaskLoss, MaskMatcher, ObjectnessLoss, Prediction
from slotseg.losses.coverage import coverage_of
from slotseg.losses.mask_terms import MaskSamples
from slotseg.losses.objectness import center_map
from slotseg.losses.points import PointSampler
from slotseg.losses.things import allowed_by_place, is_thing_segment
from slotseg.ops.lattice import Lattice
from slotseg.slots import DenseGuess, InitialSlots, SlotState

# Segment 0 is road, segment 1 a car of 2x2 pixels; class 0 is stuff, class 1 a thing.
MAP = torch.tensor([[[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, -1], [0, 0, 0, 0]]])
CATEGORIES = torch.tensor([[0, 1]])
IS_THING = (False, True)
NAN = math.nan


def guess_step(step_of, objectness, class_logits=None, segment_maps=MAP, categories=CATEGORIES):
    classes = torch.zeros(len(objectness), 2, *objectness.shape[1:])
    guess = DenseGuess(objectness, classes if class_logits is None else class_logits)
    return step_of(
        torch.zeros(len(objectness), 2, 4, 4),
        initial=InitialSlots(torch.zeros(len(objectness), 2, 4), guess=guess),
        segment_maps=segment_maps,
        segment_categories=categories,
    )


def test_objectness_by_hand(step_of):
    logits = torch.full((1, 4, 4), -1.0)
    logits[0, 1, 1] = 2.0
    found = ObjectnessLoss(weight=0.5, is_thing=IS_THING)(guess_step(step_of, logits))
    sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    # Of four equally near pixels the first is the centre; the side of 2 makes a deviation of 0.5.
    expected = -((1 - sigmoid(2.0)) ** 2) * math.log(sigmoid(2.0))
    for row in range(4):
        for column in range(4):
            if (row, column) in ((1, 1), (2, 3)):
                continue
            bump = math.exp(-((row - 1) ** 2 + (column - 1) ** 2) / (2 * 0.5**2))
            p = sigmoid(-1.0)
            expected -= (1 - bump) ** 4 * p**2 * math.log(1 - p)
    assert found["loss_objectness"].item() == pytest.approx(0.5 * expected, rel=1e-5)


def test_crowded_centers_keep_their_peaks():
    shares = torch.zeros(1, 3, 6, 6)
    shares[0, 0, 2, 2] = shares[0, 1, 2, 3] = 1.0
    shares[0, 2] = 1.0 - shares[0, :2].sum(dim=0)
    truth, centers, counts = center_map(
        shares, torch.tensor([[True, True, False]]), torch.tensor([[0.5, 0.25, 1.0]])
    )
    assert centers.nonzero().tolist() == [[0, 2, 2], [0, 2, 3]]
    assert truth[centers].tolist() == [1.0, 1.0]
    assert counts[centers].tolist() == [0.5, 0.25]
    assert counts.sum() == 0.75
    assert truth.max() == 1.0


@pytest.mark.parametrize(
    ("segment_maps", "categories"),
    [(torch.full((1, 4, 4), -1), torch.tensor([[-1]])), (MAP.clamp(-1, 0), torch.tensor([[0]]))],
    ids=["void", "stuff"],
)
def test_images_without_things_have_finite_losses(step_of, segment_maps, categories):
    logits = torch.zeros(1, 4, 4, requires_grad=True)
    step = guess_step(step_of, logits, None, segment_maps, categories)
    values = [
        loss(step)[f"loss_{loss.node.lower()}"]
        for loss in (ObjectnessLoss(weight=1.0, is_thing=IS_THING), ClassMapLoss(weight=1.0))
    ]
    assert all(torch.isfinite(value) for value in values)
    is_void = bool((segment_maps < 0).all())
    assert [value.item() == 0.0 for value in values] == [is_void, is_void]
    values[0].backward()
    # Where nothing is known nothing is asked; road asks for no centre.
    known = segment_maps >= 0
    assert (logits.grad[known] > 0).all() and (logits.grad[~known] == 0).all()


def test_class_map_by_hand(step_of):
    logits = torch.zeros(1, 2, 4, 4)
    logits[:, 1] = 3.0
    found = ClassMapLoss(weight=2.0)(guess_step(step_of, torch.zeros(1, 4, 4), logits))
    wrong, right = math.log1p(math.exp(3.0)), math.log1p(math.exp(-3.0))
    # Eleven pixels of road, four of the car, one void.
    expected = 2.0 * (11 * wrong + 4 * right) / 15
    assert found["loss_class_map"].item() == pytest.approx(expected, rel=1e-5)


def test_dense_losses_want_segments_with_classes(step_of):
    step = guess_step(step_of, torch.zeros(1, 4, 4), categories=None)
    with pytest.raises(DatasetError, match=r"image0.png: .*LOSSES.OBJECTNESS.WEIGHT"):
        ObjectnessLoss(weight=1.0, is_thing=IS_THING)(step)


@pytest.mark.parametrize(
    "loss",
    [ObjectnessLoss(weight=1.0, is_thing=IS_THING), ClassMapLoss(weight=1.0)],
    ids=["objectness", "class_map"],
)
def test_dense_losses_refuse_classes_that_the_model_lacks(step_of, loss):
    step = guess_step(step_of, torch.zeros(1, 4, 4), categories=torch.tensor([[0, 2]]))
    with pytest.raises(DatasetError, match=r"image0.png: has class 2, but the model has 2 classes"):
        loss(step)


@pytest.mark.parametrize(
    ("loss", "node"), [(ObjectnessLoss, "OBJECTNESS"), (ClassMapLoss, "CLASS_MAP")]
)
def test_dense_losses_want_a_dense_map(loss, node):
    with pytest.raises(ConfigError, match=f"LOSSES.{node}.WEIGHT .* PeakInitializer"):
        loss(get_cfg())


def test_a_place_answers_for_the_thing_there_and_other_slots_for_stuff():
    places = torch.tensor([[[0.4, 0.4], [0.9, 0.9], [0.6, 0.9], [NAN, NAN]]])
    is_thing = is_thing_segment(CATEGORIES, IS_THING)
    allowed = allowed_by_place(MAP, is_thing, places, (4, 4))
    # On the car; on the road, which is stuff; on void; without a place.
    assert allowed.tolist() == [[[False, True], [False, False], [False, False], [True, False]]]


def test_segments_are_matched_only_to_slots_that_may_have_them():
    # Slot 0 has the better mask of segment 1, but only slot 1 may answer for it.
    masks = torch.tensor([[[0.1, 0.9], [0.4, 0.05], [0.5, 0.05]]])
    truth = torch.eye(2).unsqueeze(0)
    matcher = MaskMatcher(pixel_weight=0.2, dice_weight=1.0)
    assert matcher(masks.log(), truth, ["a.png"]).tolist() == [[2, 0]]
    allowed = torch.tensor([[[False, False], [False, True], [True, False]]])
    assert matcher(masks.log(), truth, ["a.png"], allowed=allowed).tolist() == [[2, 1]]
    allowed[0, 1, 1] = False
    assert matcher(masks.log(), truth, ["a.png"], allowed=allowed).tolist() == [[2, -1]]


def test_mask_loss_asks_the_slot_at_the_place(step_of):
    logits = torch.zeros(1, 3, 4, 4, requires_grad=True)
    places = torch.tensor([[[0.9, 0.1], [0.4, 0.4], [NAN, NAN]]])
    slots = torch.zeros(1, 3, 4)
    step = step_of(
        logits,
        slots=slots,
        class_logits=torch.zeros(1, 3, 3),
        segment_maps=MAP,
        segment_categories=CATEGORIES,
    )
    state = SlotState(slots, torch.full((1, 3, 4, 4), 1 / 3), places=places)
    guess = DenseGuess(torch.zeros(1, 4, 4), torch.zeros(1, 2, 4, 4))
    initial = InitialSlots(slots, places=places, guess=guess)
    step = replace(step, slots=state, initial=initial)
    loss = MaskLoss(
        pixel_loss="ce",
        pixel_weight=1.0,
        dice_weight=0.0,
        attention_weight=0.0,
        matcher=MaskMatcher(0.2, 1.0),
        is_thing=IS_THING,
    )
    loss(step)["loss_mask_pixel"].backward()
    # The road is asked of the slot without a place, the car of the one on it.
    assert (logits.grad[0, 2][MAP[0] == 0] < 0).all()
    assert (logits.grad[0, 1][MAP[0] == 1] < 0).all()
    assert (logits.grad[0, 0] >= 0).all()


@pytest.mark.parametrize("size", [(4, 4), (2, 2)], ids=["pixels", "blocks"])
def test_masks_at_some_pixels_meet_the_truth_of_these(step_of, size):
    torch.manual_seed(0)
    segment_maps = torch.randint(-1, 3, (2, 4, 4))
    whole = torch.randn(2, 3, *size)
    lattice = Lattice(size, 2, 1, 0)
    truth = coverage_of(segment_maps, Prediction(whole, None))
    some = Prediction(lattice.take(whole), None, lattice)
    assert truth.shape == (2, 3, *size)
    torch.testing.assert_close(coverage_of(segment_maps, some), lattice.take(truth))


def test_points_and_a_lattice_are_one_too_many(step_of):
    decoded = Decoded(torch.zeros(1, 2, 2, 2), lattice=Lattice((4, 4), 2, 0, 0))
    step = step_of(torch.zeros(1, 2, 2, 2), decoded=[decoded], segment_maps=MAP.clamp_min(0))
    loss = MaskLoss(
        pixel_loss="ce",
        pixel_weight=1.0,
        dice_weight=1.0,
        attention_weight=0.0,
        matcher=MaskMatcher(0.2, 1.0),
        points=PointSampler(8, 3.0, 0.75),
    )
    with pytest.raises(ConfigError, match=r"POINTS is above 0 .*TRAIN_STEP leaves"):
        loss(step)


def test_growing_over_a_thing_that_nobody_found_costs(step_of):
    # Segment 1 has no slot; slot 0 is asked for segment 0.
    truth = torch.eye(2).unsqueeze(0)
    narrow = torch.tensor([[[9.0, -9.0], [0.0, 0.0]]])
    wide = torch.tensor([[[9.0, 9.0], [0.0, 0.0]]])
    costs = [
        MaskSamples.of(logits, truth, independent=False).pairs(torch.tensor([[0, -1]])).dice()
        for logits in (narrow, wide)
    ]
    assert costs[0].item() < 0.01
    assert costs[1].item() == pytest.approx(1 - 3 / 4, abs=0.01)
