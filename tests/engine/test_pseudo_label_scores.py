"""Pseudo labels against the truth."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from slotseg.engine.pseudo_label_scores import LabelSetting, MeasureScores, score_pseudo_labels
from slotseg.errors import DatasetError
from slotseg.semi.filtering import LabelFilter

IS_THING = (False, True)
EVERYTHING = LabelFilter(0.0, 0.0, 1.0)
# Road with a car of three pixels, a crowd of cars and a void pixel.
TRUTH = torch.tensor([[0, 0, 0, 0, 0], [1, 1, 1, 2, -1]])
# The teacher sees one pixel of road as car, and one pixel it gives to nobody.
IDS = torch.tensor([[4, 4, 4, 0, 9], [9, 9, 9, 9, 9]])
SEGMENTS = [
    {"id": 4, "category_id": 0, "isthing": False, "confidence": 0.5},
    {"id": 9, "category_id": 1, "isthing": True, "confidence": 0.9},
]


class Teacher(nn.Module):
    """Is unsure of the last column, and of the first one a little."""

    def forward(self, inputs):
        assert not self.training
        assert all(x["image"].shape[1:] == (x["height"], x["width"]) == (2, 5) for x in inputs)
        probs = torch.zeros(2, 2, 5)
        probs[0] = 1.0
        probs[:, :, 0] = torch.tensor([0.99, 0.01]).view(2, 1)
        probs[:, :, 4] = 0.5
        output = {"panoptic_seg": (IDS, SEGMENTS)}
        return [
            output | ({"pixel_probs": probs} if "want_pixel_probs" in x else {}) for x in inputs
        ]


def item(**changes):
    return {
        "file_name": "0.png",
        "image_id": "0",
        "height": 20,
        "width": 50,
        "image": torch.zeros(3, 2, 5, dtype=torch.uint8),
        "segment_map": TRUTH,
        # The last segment was cut away.
        "segment_category": torch.tensor([0, 1, 1, 0]),
        "segment_is_object": torch.tensor([False, True, False, False]),
        "segment_is_crowd": torch.tensor([False, False, True, False]),
    } | changes


def rows_of(*settings, images=1):
    loader = [[item() for _ in range(images)]]
    scores, measures = score_pseudo_labels(Teacher(), loader, settings, IS_THING)
    return [score.row() for score in scores], measures


def test_without_filters_by_hand():
    (row,), measures = rows_of(LabelSetting("all", "none", EVERYTHING), images=2)
    # Eight pixels have a true class, seven a predicted one; road is found by 3/5, the car likewise,
    # as its pixel on the crowd counts and that on void does not.
    assert row == {
        "kept": pytest.approx(100 * 7 / 8),
        "right of kept": pytest.approx(100 * 6 / 7),
        "right of dropped": pytest.approx(math.nan, nan_ok=True),
        "kept things": 100.0,
        "right of kept things": pytest.approx(100 * 3 / 4),
        "right segments": 100.0,
        "PQ": pytest.approx(100 * (3 / 5 + 3 / 5) / 2),
    }
    assert measures == {}


def test_filters_drop_what_they_should():
    rows, measures = rows_of(
        LabelSetting("sure", "entropy", LabelFilter(0.0, 0.0, 0.5)),
        LabelSetting("confident", "none", LabelFilter(0.6, 0.6, 1.0)),
    )
    assert rows[0]["kept"] == pytest.approx(100 * 6 / 8)
    assert rows[0]["right of kept"] == 100.0
    assert rows[0]["right of dropped"] == 0.0
    assert rows[0]["kept things"] == pytest.approx(100 * 3 / 4)
    assert rows[0]["right of kept things"] == 100.0
    # Only the car is left.
    assert rows[1]["kept"] == pytest.approx(100 * 4 / 8)
    assert rows[1]["right of kept"] == pytest.approx(100 * 3 / 4)
    assert rows[1]["right of dropped"] == 100.0
    # The one wrong pixel is the least sure of all.
    assert measures["entropy"].area_under_curve() == 1.0


def test_area_under_the_curve():
    scores = MeasureScores()
    assert math.isnan(scores.area_under_curve())
    scores.right = np.array([2.0, 1.0, 1.0])
    scores.wrong = np.array([0.0, 1.0, 1.0])
    # Of 8 pairs 2 + 3 are in order and 2 are ties.
    assert scores.area_under_curve() == pytest.approx((2 + 3 + 2 / 2) / 8)


def test_images_without_truth_are_refused():
    unlabelled = {key: item()[key] for key in ("file_name", "image_id", "image")}
    with pytest.raises(DatasetError, match=r"0\.png: has no panoptic truth .*DATASETS.TEST"):
        score_pseudo_labels(
            Teacher(), [[unlabelled]], [LabelSetting("", "none", EVERYTHING)], IS_THING
        )
