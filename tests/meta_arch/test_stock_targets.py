"""Panoptic truth in the terms of Detectron2's models, from maps made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.projects.panoptic_deeplab.target_generator import PanopticDeepLabTargetGenerator
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from slotseg.classes import IGNORE_LABEL, ClassSet
from slotseg.meta_arch.stock.targets import center_targets, detection_targets, stuff_targets
from slotseg.meta_arch.truth import PanopticTruth

# Things and stuff take turns, so that no two numberings agree by chance.
CLASSES = ClassSet(
    names=("road", "car", "sky", "person"),
    is_thing=(False, True, False, True),
    dataset_ids=(7, 26, 23, 24),
)


def truth_of(segment_map, category, crowd=()):
    """Segments of ``category``; those numbered in ``crowd`` are crowd."""
    category = torch.tensor(category, dtype=torch.int64)
    is_crowd = torch.zeros(len(category), dtype=torch.bool)
    is_crowd[list(crowd)] = True
    is_thing = torch.tensor(CLASSES.is_thing)[category]
    return PanopticTruth(
        torch.as_tensor(segment_map, dtype=torch.int64), category, is_thing & ~is_crowd, is_crowd
    )


@pytest.fixture
def truth():
    """A car, a person, a crowd of cars, road, a person cut away by a crop, and void."""
    segment_map = [
        [-1, 3, 3, 3, 3],
        [0, 0, 3, 1, 3],
        [0, 0, 3, 1, 2],
    ]
    return truth_of(segment_map, [1, 3, 1, 0, 3], crowd=[2])


def test_objects_become_instances_and_crowd_does_not(truth):
    targets = detection_targets(truth, CLASSES)
    assert targets.image_size == (3, 5)
    assert targets.gt_classes.tolist() == [0, 1]
    assert targets.gt_boxes.tensor.tolist() == [[0, 1, 2, 3], [3, 1, 4, 3]]
    assert targets.gt_masks.tensor.dtype == torch.bool
    assert torch.equal(targets.gt_masks.tensor[0], truth.segment_map == 0)
    assert torch.equal(targets.gt_masks.tensor[1], truth.segment_map == 1)


def test_boxes_are_those_of_detectron2(truth):
    targets = detection_targets(truth, CLASSES)
    expected = targets.gt_masks.get_bounding_boxes().tensor
    assert torch.equal(targets.gt_boxes.tensor, expected)


def test_stuff_targets_number_things_zero_and_ignore_crowd_and_void(truth):
    void = IGNORE_LABEL
    assert stuff_targets(truth, CLASSES).tolist() == [
        [void, 1, 1, 1, 1],
        [0, 0, 1, 0, 1],
        [0, 0, 1, 0, void],
    ]
    sky = truth_of([[0, 0]], [2])
    assert stuff_targets(sky, CLASSES).tolist() == [[2, 2]]


@pytest.mark.parametrize(
    ("segment_map", "category", "crowd"),
    [([[-1, -1]], [], ()), ([[0, 0]], [2], ()), ([[0, 0]], [1], (0,)), ([[-1, -1]], [1], ())],
    ids=["empty", "only stuff", "only crowd", "only an object that was cut away"],
)
def test_images_without_objects(segment_map, category, crowd):
    truth = truth_of(segment_map, category, crowd)
    instances = detection_targets(truth, CLASSES)
    assert len(instances) == 0
    assert instances.gt_boxes.tensor.shape == (0, 4)
    assert instances.gt_masks.tensor.shape == (0, 1, 2)
    targets = center_targets(truth, sigma=1)
    assert not targets["center"].any() and not targets["offset"].any()
    assert not targets["offset_weights"].any()
    assert torch.equal(targets["center_weights"][0] > 0, stuff_targets(truth, CLASSES) == 2)


def test_centers_and_offsets_by_hand(truth):
    targets = center_targets(truth, sigma=1, small_area=4, small_weight=3.0)
    # The car's four pixels have their mean at (1.5, 0.5), the person's two at (1.5, 3).
    assert targets["offset"][:, 1, 0].tolist() == [0.5, 0.5]
    assert targets["offset"][:, 2, 3].tolist() == [-0.5, 0.0]
    assert not targets["offset"][:, truth.segment_map >= 2].any()
    # Half a pixel is rounded to the even neighbour.
    assert targets["center"][2, 0] == 1 and targets["center"][2, 3] == 1
    assert targets["center"][2, 1] == pytest.approx(np.exp(-0.5))
    assert targets["sem_seg"].tolist() == [[255, 0, 0, 0, 0], [1, 1, 0, 3, 0], [1, 1, 0, 3, 1]]
    assert targets["sem_seg_weights"].tolist() == [
        [1, 1, 1, 1, 1],
        [1, 1, 1, 3, 1],
        [1, 1, 1, 3, 1],
    ]
    assert targets["center_weights"].tolist() == [
        [[0, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    ]
    assert targets["offset_weights"].tolist() == [
        [[0, 0, 0, 0, 0], [1, 1, 0, 1, 0], [1, 1, 0, 1, 0]]
    ]


def test_center_options(truth):
    targets = center_targets(
        truth, sigma=1, ignore_stuff_in_offset=False, ignore_crowd_in_semantic=True
    )
    assert targets["sem_seg"][2, 4] == IGNORE_LABEL
    assert torch.equal(targets["offset_weights"], targets["center_weights"])


def test_a_crowd_has_no_center():
    truth = truth_of([[0, 0, 0, 0]], [1], crowd=[0])
    assert not center_targets(truth, sigma=3)["center"].any()


@given(
    arrays(
        np.int64, st.tuples(st.integers(1, 24), st.integers(1, 24)), elements=st.integers(-1, 4)
    ),
    st.lists(st.integers(0, 3), min_size=5, max_size=5),
    st.integers(1, 4),
    st.integers(0, 30),
    st.booleans(),
)
def test_centers_are_those_of_detectron2(segment_map, category, sigma, small_area, only_things):
    truth = truth_of(segment_map, category)
    mine = center_targets(
        truth,
        sigma=sigma,
        small_area=small_area,
        small_weight=3,
        ignore_stuff_in_offset=only_things,
    )
    theirs = PanopticDeepLabTargetGenerator(
        ignore_label=IGNORE_LABEL,
        thing_ids=CLASSES.things,
        sigma=sigma,
        small_instance_area=small_area,
        small_instance_weight=3,
        ignore_stuff_in_offset=only_things,
    )(
        segment_map,
        [{"id": s, "category_id": c, "iscrowd": 0} for s, c in enumerate(category)],
    )
    theirs.pop("center_points")
    assert set(mine) == set(theirs)
    for name, expected in theirs.items():
        assert mine[name].dtype == expected.dtype and mine[name].shape == expected.shape, name
        torch.testing.assert_close(mine[name], expected, rtol=1e-5, atol=1e-6, msg=name)
