"""Detectron2's instances, on cases made by hand."""

import pytest
import torch

from slotseg.heads import instance_inference

# Class 0 is stuff, classes 1 and 2 are things; the last column is "no object".
IS_THING = (False, True, True)
PROBS = torch.tensor(
    [[0.0, 0.6, 0.4, 0.0], [0.9, 0.0, 0.1, 0.0], [0.0, 0.2, 0.7, 0.1], [0.0, 0.9, 0.0, 0.1]]
)
MASKS = torch.tensor([[[0.8, 1.0, 0.2]], [[0.0, 0.6, 0.6]], [[0.0, 0.0, 1.0]], [[0.4, 0.5, 0.1]]])


def test_every_slot_with_a_mask_is_an_instance_of_its_best_thing_class():
    found = instance_inference(PROBS, MASKS, (1, 3), IS_THING)
    # The last slot is surest, but its mask holds nothing.
    assert found.pred_classes.tolist() == [2, 1, 2]
    assert found.scores.tolist() == pytest.approx([0.7, 0.6 * 0.9, 0.1 * 0.6])
    assert found.pred_masks.tolist() == [
        [[False, False, True]], [[True, True, False]], [[False, True, True]]
    ]  # fmt: skip
    assert found.pred_boxes.tensor.tolist() == [[2, 0, 3, 1], [0, 0, 2, 1], [1, 0, 3, 1]]
    assert found.image_size == (1, 3)


def test_the_limit_keeps_the_surest_classes():
    found = instance_inference(PROBS, MASKS, (1, 3), IS_THING, limit=2)
    assert found.pred_classes.tolist() == [2]


def test_masks_come_at_the_wanted_size():
    found = instance_inference(PROBS, MASKS, (4, 6), IS_THING, mask_threshold=0.9)
    assert found.pred_masks.shape == (2, 4, 6)
    assert found.pred_masks.dtype == torch.bool


@pytest.mark.parametrize("case", ["no_things", "no_slots", "no_masks"])
def test_nothing_found(case):
    probs, masks = (PROBS[:0], MASKS[:0]) if case == "no_slots" else (PROBS, MASKS)
    found = instance_inference(
        probs,
        masks * (case != "no_masks"),
        (2, 3),
        (False, False, False) if case == "no_things" else IS_THING,
    )
    assert len(found) == 0
    assert found.pred_masks.shape == (0, 2, 3)
    assert found.scores.shape == found.pred_classes.shape == (0,)
