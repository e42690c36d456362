import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slotseg.errors import ConfigError
from slotseg.semi.filtering import LabelFilter, confidence_of, number_pixels

IDS = torch.tensor([[7, 7, 7, 3], [7, 7, 0, 3], [9, 9, 3, 3]])


def segment(number, confidence, thing=True, category=0):
    return {
        "id": number,
        "category_id": category,
        "isthing": thing,
        "confidence": confidence,
    }


SEGMENTS = [segment(7, 0.6, thing=False, category=2), segment(3, 0.6), segment(9, 0.9)]


def test_things_and_stuff_have_thresholds_of_their_own():
    found = LabelFilter(min_confidence_things=0.7, min_confidence_stuff=0.5)(IDS, SEGMENTS, None)
    assert found.segment_map.tolist() == [[0, 0, 0, -1], [0, 0, -1, -1], [1, 1, -1, -1]]
    assert found.segments == [SEGMENTS[0], SEGMENTS[2]]
    assert found.confidence == [0.6, 0.9]
    assert found.predicted.tolist() == [[0, 0, 0, 1], [0, 0, -1, 1], [2, 2, 1, 1]]
    assert found.categories.tolist() == [2, 0, 0]
    assert found.uncertain is None


def test_uncertain_pixels_are_void():
    uncertainty = torch.tensor([[0.0, 0.3, 0.2, 0.0], [0.0, 0.0, 0.9, 0.0], [0.0, 0.0, 0.0, 1.0]])
    found = LabelFilter(max_uncertainty=0.2)(IDS, SEGMENTS, uncertainty)
    assert found.segment_map.tolist() == [[0, -1, 0, 1], [0, 0, -1, 1], [2, 2, 1, -1]]
    assert found.uncertain.sum() == 3


@pytest.mark.parametrize(
    ("options", "kept"),
    [({"min_area": 3}, [7]), ({"min_area": 2}, [7, 3, 9]), ({"min_kept_share": 0.6}, [7, 9])],
    ids=["area", "small-area", "share"],
)
def test_what_is_left_of_a_segment_must_be_enough(options, kept):
    uncertainty = torch.zeros(3, 4)
    uncertainty[1:, 3] = 1.0  # half of segment 3
    found = LabelFilter(**options)(IDS, SEGMENTS, uncertainty)
    assert [s["id"] for s in found.segments] == kept
    assert set(found.segment_map.unique().tolist()) == {-1, *range(len(kept))}


def test_rounding_of_a_full_uncertainty_does_not_matter():
    found = LabelFilter(max_uncertainty=1.0)(IDS, SEGMENTS, torch.full((3, 4), 1.0000001))
    assert (found.segment_map >= 0).sum() == 11


def test_nothing_predicted_is_nothing_kept():
    found = LabelFilter()(torch.zeros(3, 4, dtype=torch.int32), [], torch.zeros(3, 4))
    assert (found.segment_map == -1).all()
    assert found.segments == []
    assert found.segment_map.dtype == torch.int64


def test_confidence_is_the_models_word_or_the_score_or_full():
    assert confidence_of({"confidence": 0.25, "score": 0.75}) == 0.25
    assert confidence_of({"score": 0.75}) == 0.75
    assert confidence_of({}) == 1.0
    assert confidence_of({"confidence": 1.0 + 1e-9}) == 1.0


def test_ids_that_are_not_listed_are_void():
    ids = torch.tensor([-1, 0, 5, 2, 1000], dtype=torch.int32)
    assert number_pixels(ids, [5, 2]).tolist() == [-1, -1, 0, 1, -1]


@settings(max_examples=40)
@given(
    ids=st.lists(st.integers(0, 4), min_size=12, max_size=12),
    confidence=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    uncertainty=st.lists(st.floats(0, 1), min_size=12, max_size=12),
    least=st.floats(0, 1),
    most=st.floats(0, 1),
    area=st.integers(0, 5),
)
def test_every_pixel_is_its_own_segment_or_void(ids, confidence, uncertainty, least, most, area):
    ids, unsure = torch.tensor(ids).view(3, 4), torch.tensor(uncertainty).view(3, 4)
    segments = [segment(number + 1, value) for number, value in enumerate(confidence)]
    found = LabelFilter(least, least, most, area)(ids, segments, unsure)
    kept = found.segment_map >= 0
    id_of = torch.tensor([s["id"] for s in found.segments], dtype=torch.int64)
    assert torch.equal(id_of[found.segment_map[kept]], ids[kept])
    assert not (kept & (unsure > most)).any()
    for number, value in enumerate(confidence, start=1):
        sure = (ids == number) & (unsure <= most)
        wanted = value >= least and sure.sum() >= max(area, 1)
        assert torch.equal(kept & (ids == number), sure & wanted)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_uncertainty", 1.5),
        ("min_confidence_stuff", -0.1),
        ("min_kept_share", 2),
        ("min_area", -1),
    ],
)
def test_thresholds_out_of_range_are_refused(key, value):
    with pytest.raises(ConfigError, match=f"PSEUDO_LABELS.{key.upper()}: {value} should be"):
        LabelFilter(**{key: value})
