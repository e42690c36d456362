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


def test_independent_masks_compete_by_thresholds():
    # The sky says 0.9 everywhere, the car has half of it; a second car loses to the first.
    masks = torch.tensor([[[0.9, 0.9, 0.9, 0.9]], [[0.0, 0.0, 1.0, 1.0]], [[0.0, 0.6, 0.7, 0.7]]])
    head = make_head(independent=True, overlap_threshold=0.5)
    sure = torch.stack([5.0 * row for row in logits(SKY, CAR, CAR) / 10.0])
    ids, info = head.segment(sure, masks, (1, 4))
    assert [(x["category_id"], x["area"]) for x in info] == [(SKY, 2), (CAR, 2)]
    assert ids.tolist() == [[1, 1, 2, 2]]
    ids, info = make_head(independent=True, mask_threshold=0.95, overlap_threshold=0.0).segment(
        sure, masks, (1, 4)
    )
    assert ids.tolist() == [[0, 0, 1, 1]]


def test_slots_of_one_stuff_class_are_merged_where_masks_are_independent():
    masks = torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]]])
    ids, info = make_head(independent=True).segment(logits(SKY, SKY, CAR), masks, (1, 3))
    assert [(x["category_id"], x["area"]) for x in info] == [(SKY, 2), (CAR, 1)]
    assert ids.tolist() == [[1, 1, 2]]


def test_the_class_map_is_the_sum_of_masks_by_class():
    masks = torch.tensor([[[0.5, 0.2]], [[0.5, 0.8]]])
    class_logits = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.1, 0.2, 0.3, 0.4]]).log()
    found = make_head().class_map(class_logits, masks, (1, 2))
    expected = [[[0.4, 0.22]], [[0.15, 0.18]], [[0.2, 0.26]]]
    torch.testing.assert_close(found, torch.tensor(expected))
    assert make_head().class_map(class_logits, masks, (4, 6)).shape == (3, 4, 6)


def test_only_the_outputs_that_are_asked_for_are_made():
    masks = one_hot_masks([[0, 0, 1, 1]], 2)
    for outputs in (["panoptic_seg"], ["sem_seg", "instances"], list(PanopticHead.OUTPUTS)):
        found = make_head(outputs=outputs).infer(logits(SKY, CAR), masks, (2, 8))
        assert list(found) == outputs
    assert found["panoptic_seg"][0].shape == (2, 8)
    assert found["sem_seg"].shape == (3, 2, 8)
    assert found["sem_seg"].argmax(dim=0)[0].tolist() == [SKY] * 4 + [CAR] * 4
    # Every slot is an instance of its best thing class, whatever that is worth.
    assert found["instances"].scores[0] > 0.9 and found["instances"].scores[1] < 0.01
    assert found["instances"].pred_masks[0].sum() == 8
    with pytest.raises(ConfigError, match="MODEL.HEAD.OUTPUTS: 'boxes' is unknown"):
        make_head(outputs=["boxes"])


def test_at_most_so_many_instances():
    masks = one_hot_masks([[0, 1, 2, 3]], 4)
    head = make_head(outputs=["instances"], max_instances=3)
    assert len(head.infer(logits(CAR, CAR, CAR, CAR), masks, (1, 4))["instances"]) == 3
