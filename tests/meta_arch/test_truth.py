"""The panoptic truth of an image."""

import pytest
import torch

from slotseg.errors import DatasetError
from slotseg.meta_arch.truth import PanopticTruth, paint


def test_a_sample_without_panoptic_truth_is_named():
    with pytest.raises(DatasetError, match=r"a\.png: has no segment_category.*DATASETS\.TRAIN"):
        PanopticTruth.of(
            {"file_name": "a.png", "segment_map": torch.zeros(2, 2)}, torch.device("cpu")
        )


def test_pixels_are_painted_and_counted_by_segment():
    truth = PanopticTruth(
        segment_map=torch.tensor([[2, 0], [-1, 2]]),
        category=torch.tensor([7, 8, 9]),
        is_object=torch.tensor([True, True, False]),
        is_crowd=torch.tensor([False, False, False]),
    )
    assert truth.paint(truth.category, void=255).tolist() == [[9, 7], [255, 9]]
    assert truth.areas().tolist() == [1, 0, 2]


def test_a_map_of_nothing_but_void_can_be_painted():
    painted = paint(torch.full((2, 2), -1), torch.empty(0, dtype=torch.int64), void=-1)
    assert painted.dtype == torch.int64 and painted.tolist() == [[-1, -1], [-1, -1]]
