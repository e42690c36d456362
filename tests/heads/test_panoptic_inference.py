"""Panoptic segments from class probabilities and masks, on cases made by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slotseg.heads.panoptic_inference import confident_queries, panoptic_inference

# Class 0 is stuff, classes 1 and 2 are things.
IS_THING = (False, True, True)


def probs(*queries):
    """``(class, probability)`` a query; the rest of the probability goes to "no object"."""
    rows = torch.zeros(len(queries), 4)
    for row, (category, probability) in zip(rows, queries, strict=True):
        row[3] = 1.0 - probability
        row[category] = probability
    return rows


def masks(*pictures):
    """Strings of digits, tenths of a probability, one string a row."""
    return torch.tensor([[[int(c) / 10 for c in row] for row in rows] for rows in pictures])


def test_each_pixel_goes_to_the_best_product_of_class_and_mask():
    ids, segments = panoptic_inference(
        probs((0, 0.9), (1, 0.9)),
        masks(["9992", "9996"], ["0000", "0009"]),
        (2, 4),
        IS_THING,
        mask_threshold=0.1,
    )
    assert ids.tolist() == [[1, 1, 1, 1], [1, 1, 1, 2]]
    assert ids.dtype == torch.int32
    score = pytest.approx(0.9)
    assert segments == [
        {
            "id": 1,
            "category_id": 0,
            "isthing": False,
            "area": 7,
            "score": score,
            "confidence": pytest.approx(0.9 * (6 * 0.9 + 0.2) / 7),
        },
        {
            "id": 2,
            "category_id": 1,
            "isthing": True,
            "area": 1,
            "score": score,
            "confidence": pytest.approx(0.81),
        },
    ]


def test_queries_below_the_threshold_or_without_object_do_not_compete():
    class_probs = torch.tensor([[0.0, 0.8, 0.0, 0.2], [0.0, 0.05, 0.0, 0.95], [0.0, 0.0, 0.81, 0]])
    ids, segments = panoptic_inference(
        class_probs, masks(["99"], ["99"], ["06"]), (1, 2), IS_THING, object_threshold=0.8
    )
    assert ids.tolist() == [[0, 1]]
    assert [s["category_id"] for s in segments] == [2]


def test_winning_with_a_weak_mask_leaves_the_pixel_empty():
    ids, segments = panoptic_inference(probs((1, 1.0)), masks(["945"]), (1, 3), IS_THING)
    assert ids.tolist() == [[1, 0, 1]]
    assert segments[0]["area"] == 2


@pytest.mark.parametrize(("overlap", "kept"), [(0.5, True), (0.51, False)])
def test_a_query_that_loses_too_much_of_its_mask_is_left_out(overlap, kept):
    ids, segments = panoptic_inference(
        probs((1, 0.9), (2, 1.0)),
        # The first query wins one of the two pixels of its mask.
        masks(["8800"], ["0991"]),
        (1, 4),
        IS_THING,
        overlap_threshold=overlap,
    )
    assert ids.tolist() == [[1, 2, 2, 0] if kept else [0, 1, 1, 0]]
    assert [s["category_id"] for s in segments] == ([1, 2] if kept else [2])


def test_the_share_counts_all_pixels_won_as_published():
    # The first query's mask has two pixels and it wins two, although one of them with 0.2 only.
    _, segments = panoptic_inference(
        probs((1, 0.9), (2, 1.0)),
        masks(["8802"], ["0990"]),
        (1, 4),
        IS_THING,
        overlap_threshold=0.9,
    )
    assert [s["area"] for s in segments] == [1, 2]


def test_stuff_is_one_segment_and_things_are_not():
    ids, segments = panoptic_inference(
        probs((0, 0.9), (1, 0.9), (0, 0.95), (1, 0.9)),
        masks(["9000"], ["0900"], ["0090"], ["0009"]),
        (1, 4),
        IS_THING,
    )
    assert ids.tolist() == [[1, 2, 1, 3]]
    assert [s["area"] for s in segments] == [2, 1, 1]
    assert segments[0]["score"] == pytest.approx(0.95)
    assert segments[0]["confidence"] == pytest.approx(0.9 * (0.9 + 0.95) / 2)


def test_nothing_confident_gives_an_empty_map():
    ids, segments = panoptic_inference(
        probs((1, 0.3)), torch.ones(1, 2, 2), (4, 6), IS_THING, object_threshold=0.5
    )
    assert ids.shape == (4, 6)
    assert ids.dtype == torch.int32
    assert not ids.any()
    assert segments == []


def test_no_queries_at_all():
    ids, segments = panoptic_inference(torch.zeros(0, 4), torch.zeros(0, 2, 2), (2, 2), IS_THING)
    assert not ids.any()
    assert segments == []


def test_masks_are_brought_to_the_wanted_size():
    ids, segments = panoptic_inference(
        probs((0, 1.0), (1, 1.0)), masks(["90"], ["09"]), (4, 8), IS_THING
    )
    assert ids.tolist() == [[1] * 4 + [2] * 4] * 4
    assert [s["area"] for s in segments] == [16, 16]


def test_upsampling_may_be_the_callers_own():
    logits = torch.tensor([[[4.0, 4.0, -4.0]]])
    ids, _ = panoptic_inference(
        probs((1, 1.0)), logits, (1, 2), IS_THING, upsample=lambda m: m[:, :, 1:].sigmoid()
    )
    assert ids.tolist() == [[1, 0]]


def test_a_wrong_number_of_classes_is_refused():
    with pytest.raises(ValueError, match="4 columns for 2 classes"):
        panoptic_inference(probs((1, 1.0)), torch.ones(1, 2, 2), (2, 2), (True, True))


def test_confident_queries_are_listed_in_order():
    class_probs = probs((2, 0.9), (1, 0.4), (0, 0.7))
    assert confident_queries(class_probs, 0.6).tolist() == [0, 2]
    # Half a chance of being something is not enough when "no object" is more likely.
    assert confident_queries(class_probs, 0.0).tolist() == [0, 2]


def slow_inference(class_probs, mask_probs, is_thing, object_threshold, overlap_threshold):
    """The published rule, query by query over all masks at once."""
    scores, classes = class_probs.max(dim=1)
    keep = (classes < len(is_thing)) & (scores > object_threshold)
    scores, classes, full = scores[keep], classes[keep], mask_probs[keep]
    ids = torch.zeros(mask_probs.shape[1:], dtype=torch.int32)
    found, stuff = [], {}
    if not len(scores):
        return ids, found
    winner = (scores[:, None, None] * full).argmax(dim=0)
    for query in range(len(scores)):
        category = int(classes[query])
        mask = (winner == query) & (full[query] >= 0.5)
        whole = int((full[query] >= 0.5).sum())
        if not mask.any() or int((winner == query).sum()) / whole < overlap_threshold:
            continue
        if category in stuff:
            ids[mask] = stuff[category]
            continue
        found.append(category)
        ids[mask] = len(found)
        if not is_thing[category]:
            stuff[category] = len(found)
    return ids, found


@given(st.integers(0, 10**6), st.integers(1, 30))
def test_equals_the_rule_written_out(seed, queries):
    generator = torch.Generator().manual_seed(seed)
    class_probs = (torch.randn(queries, 4, generator=generator) * 3).softmax(dim=1)
    mask_probs = (torch.randn(queries, 5, 7, generator=generator) * 2).sigmoid()
    ids, segments = panoptic_inference(
        class_probs, mask_probs, (5, 7), IS_THING, object_threshold=0.4, overlap_threshold=0.3
    )
    expected_ids, expected_classes = slow_inference(class_probs, mask_probs, IS_THING, 0.4, 0.3)
    assert torch.equal(ids, expected_ids)
    assert [s["category_id"] for s in segments] == expected_classes
    assert [s["area"] for s in segments] == [int((ids == s["id"]).sum()) for s in segments]
