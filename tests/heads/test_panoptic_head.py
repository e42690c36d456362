import pytest
import torch

from slotseg import get_cfg
from slotseg.classes import Category, set_class_metadata
from slotseg.errors import ConfigError
from slotseg.heads import PanopticHead, build_head
from slotseg.slots import SlotState

ROAD, CAR, SKY = 0, 1, 2


def make_head(**changes):
    arguments = {"slot_dim": 4, "is_thing": [False, True, False]}
    return PanopticHead(**{**arguments, "object_threshold": 0.5, "min_area": 1, **changes})


def logits(*rows):
    """Slots that are sure of their class; 3 is "no object"."""
    return 10.0 * torch.nn.functional.one_hot(torch.tensor(rows), 4).float()


def one_hot_masks(owner, num_slots):
    return torch.nn.functional.one_hot(torch.tensor(owner), num_slots).permute(2, 0, 1).float()


def test_slots_of_one_stuff_class_become_one_segment_and_things_stay_apart():
    masks = one_hot_masks([[0, 0, 1, 1], [2, 2, 3, 4]], 5)
    ids, info = make_head().segment(logits(SKY, SKY, CAR, CAR, ROAD), masks, (2, 4))
    assert [x["category_id"] for x in info] == [ROAD, SKY, CAR, CAR]
    by_id = {x["id"]: (x["category_id"], x["area"]) for x in info}
    assert [by_id[i] for i in ids.flatten().tolist()] == [
        *[(SKY, 4)] * 4, *[(CAR, 2)] * 2, (CAR, 1), (ROAD, 1)
    ]  # fmt: skip
    assert ids[1, 0] != ids[1, 2]


def test_shares_of_a_stuff_class_are_added_before_the_comparison():
    # Two slots of sky with 0.3 each against a car with 0.4: sky.
    masks = torch.tensor([0.3, 0.3, 0.4]).view(3, 1, 1)
    ids, info = make_head().segment(logits(SKY, SKY, CAR), masks, (1, 1))
    assert info[int(ids) - 1]["category_id"] == SKY


def test_unsure_things_and_small_segments_are_left_out():
    masks = one_hot_masks([[0, 0, 1, 1]], 2)
    unsure = torch.stack([logits(SKY)[0], torch.tensor([0.0, 0.1, 0.0, 0.0])])
    _, info = make_head().segment(unsure, masks, (1, 4))
    assert [x["category_id"] for x in info] == [ROAD, SKY]  # what else it may be decides there
    ids, info = make_head(min_area=3).segment(logits(SKY, CAR), masks, (1, 4))
    assert info == [] and ids.eq(0).all()


def test_no_slot_means_anything():
    masks = one_hot_masks([[0, 1]], 2)
    head = make_head(is_thing=[True, True, True])
    ids, info = head.segment(logits(3, 3), masks, (1, 2))
    assert info == [] and ids.tolist() == [[0, 0]]


def test_classes_come_from_the_first_training_set():
    set_class_metadata("test_head_set", [Category(7, "road", False, (0, 0, 0))])
    name = ["MODEL.HEAD.NAME", "PanopticHead"]
    head = build_head(get_cfg(overrides=[*name, "DATASETS.TRAIN", "('test_head_set',)"]))
    assert head(SlotState(torch.randn(2, 7, 64), torch.ones(1))).shape == (2, 7, 2)
    with pytest.raises(ConfigError, match="DATASETS.TRAIN is empty"):
        build_head(get_cfg(overrides=name))
    assert build_head(get_cfg()) is None
