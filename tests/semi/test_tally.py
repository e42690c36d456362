"""Counts of kept pixels, and what is said about them."""

import logging

import pytest
import torch

from slotseg.semi.collapse import CollapseWatch, describe_collapse
from slotseg.semi.filtering import TrustedSegments
from slotseg.semi.tally import LabelTally

NAMES = ("road", "car", "sky")


def found(predicted, kept, categories=(0, 1), uncertain=None):
    """Rows of segment numbers, -1 for none; ``kept`` only tells which pixels are."""
    predicted, kept = torch.tensor(predicted), torch.tensor(kept)
    return TrustedSegments(kept, [], [], predicted, torch.tensor(categories), uncertain)


def street(cars_kept=True):
    """Two pixels of road, two of a car, one of sky that nobody predicts."""
    return found([[0, 0, 1, 1, -1]], [[0, 0, *([1, -1] if cars_kept else [-1, -1]), -1]])


def truth(*areas):
    """A labelled image with so many pixels of each class."""
    segment_map = torch.cat([torch.full((area,), c) for c, area in enumerate(areas)]).view(1, -1)
    return {"segment_map": segment_map, "segment_category": torch.arange(len(areas))}


def test_shares_by_hand():
    tally = LabelTally(3)
    assert tally.add(street()) == (5, 3, 0)
    assert tally.kept_share == 3 / 5
    assert tally.kept_by_class() == {0: 1.0, 1: 0.5}
    assert tally.uncertain_share == 0.0


def test_uncertain_pixels_and_padding():
    uncertain = torch.tensor([[True, False, False, True, True]])
    image = found([[0, 0, 1, 1, -1]], [[-1, 0, 1, -1, -1]], uncertain=uncertain)
    # The last column is padding.
    assert LabelTally(3).add(image, (1, 4)) == (4, 2, 2)


def test_old_images_are_forgotten(monkeypatch):
    monkeypatch.setattr("slotseg.semi.tally.MEMORY", 10)
    tally = LabelTally(3)
    tally.add(street())
    for _ in range(50):
        tally.add(street(cars_kept=False))
    assert tally.images == 51
    assert tally.kept_by_class()[1] == pytest.approx(0.5 * 0.9**50 / 10, rel=0.01)
    assert tally.pixels == pytest.approx(5 * 10, rel=0.01)


def test_the_truth_is_counted_where_there_are_classes():
    tally = LabelTally(3)
    tally.add_labeled([truth(4, 2, 2), {"segment_map": torch.zeros(2, 2)}, {}])
    assert tally.labeled.tolist() == [4.0, 2.0, 2.0]


def test_the_state_is_complete():
    tally, other = LabelTally(3), LabelTally(3)
    tally.add(street())
    tally.add_labeled([truth(4, 2, 2)])
    other.load_state_dict(tally.state_dict())
    for each in (tally, other):
        each.add(street(cars_kept=False))
        each.add_labeled([truth(1, 1, 1)])
    for name in ("predicted", "kept", "labeled"):
        assert torch.equal(getattr(tally, name), getattr(other, name))
    assert (tally.pixels, tally.images) == (other.pixels, other.images)


def test_counts_of_other_classes_are_not_taken_over():
    tally, other = LabelTally(3), LabelTally(4)
    tally.add(street())
    other.load_state_dict(tally.state_dict())
    assert other.images == 0


def test_nothing_kept_is_told():
    tally = LabelTally(3)
    uncertain = torch.ones(1, 5, dtype=torch.bool)
    tally.add(found([[0, 0, 1, 1, -1]], [[-1] * 5], uncertain=uncertain))
    message = describe_collapse(tally, NAMES)
    assert "0.0% of the pixels were kept (the teacher was too unsure of 100%" in message
    assert "SEMI.START" in message


def test_one_class_that_takes_all_is_told():
    tally = LabelTally(3)
    tally.add(found([[0, 1, 1, 1, 1]], [[0, 1, 1, 1, 1]]))
    tally.add_labeled([truth(7, 2, 1)])
    assert "class car has 80% of all kept pixels" in describe_collapse(tally, NAMES)
    assert "20% of the labelled ones" in describe_collapse(tally, NAMES)


@pytest.mark.parametrize("areas", [(1, 3, 0), (2, 4, 0)], ids=["usual", "somewhat-more"])
def test_a_class_that_is_common_may_be_common(areas):
    tally = LabelTally(3)
    tally.add(found([[0, 1, 1, 1, 1]], [[0, 1, 1, 1, 1]]))
    tally.add_labeled([truth(*areas)])
    assert describe_collapse(tally, NAMES) is None


def test_a_class_that_is_never_kept_is_told():
    tally = LabelTally(3)
    image = found([[0, 0, 1, 2, 2]], [[0, 0, -1, 2, 2]], categories=(0, 1, 2))
    tally.add(image)
    message = describe_collapse(tally, NAMES)
    assert "that the teacher calls car next to none were kept" in message
    # A class that is hardly ever predicted is no matter.
    tally.predicted[1] = 1e-3 * tally.predicted.sum()
    assert describe_collapse(tally, NAMES) is None


def test_a_model_without_classes_has_none_that_takes_all():
    tally = LabelTally(1)
    tally.add(found([[0, 0, 0, 0, 0]], [[0, 0, 0, 0, 0]], categories=(0,)))
    assert describe_collapse(tally, ()) is None


def test_warnings_come_now_and_then(caplog):
    tally, watch = LabelTally(3), CollapseWatch(NAMES)
    tally.add(found([[0, 0, 1, 1, -1]], [[-1] * 5]))
    said = []
    with caplog.at_level(logging.WARNING, "slotseg.semi"):
        for images in range(1, 4500):
            tally.images = images
            if watch.look(tally):
                said.append(images)
    assert said == [200, 2200, 4200]
    assert len(caplog.records) == 3
