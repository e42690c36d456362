"""Panoptic quality equals a slow, obvious implementation of its definition, and the peers."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slotseg.errors import DatasetError
from slotseg.evaluation.panoptic_quality import (
    PanopticCounts,
    SegmentMap,
    class_qualities,
    count_image,
    group_quality,
)

CATEGORIES = {7: 0, 11: 1, 24: 2}
BIG = 256**3 - 1


def slow_counts(truth, true_segments, pred, pred_segments):
    """The definition, pixel by pixel in exact fractions: {category: [IoUs, TP, FP, FN]}."""
    result = {category: [[], 0, 0, 0] for category in CATEGORIES}

    def pixels(ids, number):
        height, width = len(ids), len(ids[0])
        return {(y, x) for y in range(height) for x in range(width) if ids[y][x] == number}

    void = pixels(truth, 0)
    true_sets = [(s, pixels(truth, s["id"])) for s in true_segments]
    pred_sets = [(s, pixels(pred, s["id"])) for s in pred_segments]
    found = set()
    for guess, guessed in pred_sets:
        category = guess["category_id"]
        partners = []
        for segment, area in true_sets:
            if segment["category_id"] != category or segment.get("iscrowd", 0):
                continue
            both = len(area & guessed)
            union = len(guessed) + len(area) - both - len(guessed & void)
            if Fraction(both, union) > Fraction(1, 2):
                partners.append((segment["id"], Fraction(both, union)))
        assert len(partners) <= 1
        if partners:
            found.add(partners[0][0])
            result[category][0].append(partners[0][1])
            result[category][1] += 1
            continue
        ignored = set(void)
        for segment, area in true_sets:
            if segment["category_id"] == category and segment.get("iscrowd", 0):
                ignored |= area
        if Fraction(len(guessed & ignored), len(guessed)) <= Fraction(1, 2):
            result[category][2] += 1
    for segment, _ in true_sets:
        if segment["id"] not in found and not segment.get("iscrowd", 0):
            result[segment["category_id"]][3] += 1
    return result


@st.composite
def id_maps(draw, size, crowds):
    """A map of few segments with arbitrary ids, mostly in blocks so that some of them match."""
    height, width = size
    numbers = st.one_of(st.integers(1, 3), st.sampled_from([255, 256, 257, 65536, BIG]))
    palette = [0, *draw(st.lists(numbers, max_size=5, unique=True))]
    blocks = draw(
        st.lists(
            st.tuples(
                st.integers(0, height - 1),
                st.integers(1, height),
                st.integers(0, width - 1),
                st.integers(1, width),
                st.sampled_from(palette),
            ),
            max_size=6,
        )
    )
    ids = np.full(size, draw(st.sampled_from(palette)), draw(st.sampled_from([np.int32, np.int64])))
    for top, down, left, right, number in blocks:
        ids[top : top + down, left : left + right] = number
    segments = []
    for number in sorted(set(ids.ravel().tolist()) - {0}):
        segment = {"id": number, "category_id": draw(st.sampled_from(list(CATEGORIES)))}
        if crowds:
            segment["iscrowd"] = draw(st.integers(0, 1))
        segments.append(segment)
    return ids, draw(st.permutations(segments))


@st.composite
def image_pairs(draw):
    """Truth and prediction; often the prediction is the truth with some changes."""
    size = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    truth, true_segments = draw(id_maps(size, crowds=True))
    pred, pred_segments = draw(id_maps(size, crowds=False))
    if draw(st.booleans()):
        noise = np.array(draw(st.lists(st.booleans(), min_size=truth.size, max_size=truth.size)))
        mixed = np.where(noise.reshape(size) & draw(st.booleans()), pred, truth)
        category = {s["id"]: s["category_id"] for s in [*pred_segments, *true_segments]}
        ids = sorted(set(mixed.ravel().tolist()) - {0})
        pred, pred_segments = mixed, [{"id": i, "category_id": category[i]} for i in ids]
    return truth, true_segments, pred, pred_segments


def count(truth, true_segments, pred, pred_segments) -> PanopticCounts:
    true = SegmentMap(np.asarray(truth), true_segments, "truth")
    return count_image(true, SegmentMap(np.asarray(pred), pred_segments, "prediction"), CATEGORIES)


def total(images) -> PanopticCounts:
    counts = PanopticCounts.zeros(len(CATEGORIES))
    for image in images:
        counts += count(*image)
    return counts


def segment(number, category=7, crowd=0):
    return {"id": number, "category_id": category, "iscrowd": crowd}


def only(image, category=7):
    """(IoU sum, TP, FP, FN) of one class."""
    counts, index = count(*image), CATEGORIES[category]
    tp_fp_fn = counts.tp[index], counts.fp[index], counts.fn[index]
    return (counts.iou[index] / 2**53, *tp_fp_fn)


@settings(max_examples=150)
@given(st.lists(image_pairs(), max_size=4))
def test_equals_the_slow_definition(images):
    counts = total(images)
    assert counts.images == len(images)
    qualities = class_qualities(counts)
    expected = {category: [[], 0, 0, 0] for category in CATEGORIES}
    for image in images:
        for category, values in slow_counts(*image).items():
            expected[category] = [a + b for a, b in zip(expected[category], values, strict=True)]
    averaged = []
    for (ious, tp, fp, fn), quality in zip(expected.values(), qualities, strict=True):
        assert (quality.tp, quality.fp, quality.fn) == (tp, fp, fn)
        if tp + fp + fn == 0:
            assert math.isnan(quality.pq)
            assert math.isnan(quality.sq)
            assert math.isnan(quality.rq)
            continue
        size = tp + Fraction(fp, 2) + Fraction(fn, 2)
        pq, rq = sum(ious) / size, tp / size
        sq = sum(ious) / tp if tp else 0
        assert quality.pq == pytest.approx(float(pq), abs=1e-12)
        assert quality.sq == pytest.approx(float(sq), abs=1e-12)
        assert quality.rq == pytest.approx(float(rq), abs=1e-12)
        averaged.append(pq)
    group = group_quality(qualities)
    assert group.classes == len(averaged)
    if averaged:
        assert group.pq == pytest.approx(float(sum(averaged) / len(averaged)), abs=1e-12)
    else:
        assert math.isnan(group.pq)


@settings(max_examples=50)
@given(st.lists(image_pairs(), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_neither_order_nor_ranks_change_a_bit(images, random):
    whole = total(images)
    shuffled = list(images)
    random.shuffle(shuffled)
    cut = random.randrange(len(images) + 1)
    merged = total(shuffled[:cut])
    merged += total(shuffled[cut:])
    assert merged == whole


@given(image_pairs(), st.integers(1, BIG // 256))
def test_ids_are_names_only(image, step):
    truth, true_segments, pred, pred_segments = image
    assert count(truth, true_segments, *_renamed(pred, pred_segments, step)) == count(*image)
    assert count(*_renamed(truth, true_segments, step), pred, pred_segments) == count(*image)


def _renamed(ids, segments, step):
    names = {s["id"]: 1 + position * step for position, s in enumerate(segments)} | {0: 0}
    renamed = np.vectorize(names.get, otypes=[np.int64])(ids)
    return renamed, [{**s, "id": names[s["id"]]} for s in segments]


@given(image_pairs())
@example((np.zeros((2, 2), int), [], np.zeros((2, 2), int), []))
def test_the_truth_itself_scores_one(image):
    truth, segments = image[:2]
    counts = count(truth, segments, truth, segments)
    plain = [s for s in segments if not s["iscrowd"]]
    assert sum(counts.tp) == len(plain)
    assert counts.iou == [tp * 2**53 for tp in counts.tp]
    assert counts.fp == counts.fn == [0, 0, 0]


def test_an_iou_of_exactly_one_half_is_no_match():
    truth, pred = [[1, 1, 0, 0]], [[5, 0, 0, 0]]
    assert only((truth, [segment(1)], pred, [segment(5)])) == (0, 0, 1, 1)
    truth, pred = [[1, 1, 1, 0]], [[5, 5, 0, 0]]
    assert only((truth, [segment(1)], pred, [segment(5)])) == (2 / 3, 1, 0, 0)


def test_void_is_cut_off_a_prediction_and_excuses_it_above_one_half():
    truth, pred = [[1, 1, 0, 0, 0, 0]], [[5, 5, 5, 5, 5, 5]]
    assert only((truth, [segment(1)], pred, [segment(5)])) == (1.0, 1, 0, 0)
    other = [segment(1, category=11)]
    assert only((truth, other, pred, [segment(5)])) == (0, 0, 0, 0)
    half = [[1, 1, 1, 0, 0, 0]]
    assert only((half, other, pred, [segment(5)])) == (0, 0, 1, 0)


def test_crowd_never_matches_is_never_missed_and_excuses_its_own_class_only():
    ids = [[1, 1, 2, 2]]
    crowd = [segment(1, crowd=1), segment(2, category=11)]
    assert only((ids, crowd, ids, [segment(1), segment(2, 11)])) == (0, 0, 0, 0)
    assert only((ids, crowd, ids, [segment(1, 24), segment(2, 11)]), 24) == (0, 0, 1, 0)


def test_every_crowd_region_of_a_class_excuses_not_only_the_last():
    ids = [[1, 1, 1, 2, 2, 2]]
    crowds = [segment(1, crowd=1), segment(2, crowd=1)]
    for order in (crowds, crowds[::-1]):
        assert only((ids, order, [[5] * 3 + [6] * 3], [segment(5), segment(6)])) == (0, 0, 0, 0)
        assert only((ids, order, [[5] * 6], [segment(5)])) == (0, 0, 0, 0)


def test_one_id_on_both_sides_may_name_different_things():
    assert only(
        ([[1, 2]], [segment(1), segment(2, 11)], [[2, 1]], [segment(2), segment(1, 11)])
    ) == (
        1.0,
        1,
        0,
        0,
    )


def test_empty_truth_and_empty_prediction():
    blank, full = [[0, 0]], [[3, 3]]
    assert only((blank, [], full, [segment(3)])) == (0, 0, 0, 0)
    assert only((full, [segment(3)], blank, [])) == (0, 0, 0, 1)
    assert count(blank, [], blank, []) == PanopticCounts([0] * 3, [0] * 3, [0] * 3, [0] * 3, 1)


def test_area_comes_from_the_map_not_from_the_list():
    true = [{**segment(1), "area": 999}]
    assert only(([[1, 1, 0]], true, [[4, 4, 0]], [segment(4)])) == (1.0, 1, 0, 0)


def test_large_maps_and_many_images_stay_exact():
    truth = np.ones((1024, 2048), np.int32)
    pred = truth.copy()
    pred[0, 0] = 0
    counts = PanopticCounts.zeros(3)
    image = count(truth, [segment(1)], pred, [segment(1)])
    for _ in range(3000):
        counts += image
    pixels = 1024 * 2048
    assert counts.iou[0] == 3000 * int((pixels - 1) / pixels * 2**53)
    assert class_qualities(counts)[0].pq == pytest.approx((pixels - 1) / pixels, abs=1e-15)


def test_noise_without_runs_is_right_too():
    rng = np.random.default_rng(0)
    truth, pred = rng.integers(0, 40, (2, 64, 64))
    pred = np.where(rng.random((64, 64)) < 0.7, truth, pred)
    lists = [[segment(i, list(CATEGORIES)[i % 3], i % 5 == 0) for i in range(1, 40)]] * 2
    counts, slow = (
        count(truth, lists[0], pred, lists[1]),
        slow_counts(truth, lists[0], pred, lists[1]),
    )
    assert sum(counts.tp) > 5
    for index, (ious, tp, fp, fn) in enumerate(slow.values()):
        assert (counts.tp[index], counts.fp[index], counts.fn[index]) == (tp, fp, fn)
        assert counts.iou[index] / 2**53 == pytest.approx(float(sum(ious)), abs=1e-12)


GOOD = ([[1, 2]], [segment(1), segment(2)], [[3, 4]], [segment(3), segment(4)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({1: [segment(1)]}, "truth: segment ids 2 are in the map, but not in segments_info"),
        ({3: [segment(3)]}, "prediction: segment ids 4 are in the map, but not in segments_info"),
        ({3: []}, "prediction: segment ids 3, 4 are in the map"),
        ({1: [segment(i) for i in (1, 2, 9)]}, "truth: segment ids 9 are in segments_info, but no"),
        (
            {3: [segment(i) for i in range(3, 12)]},
            "prediction: segment ids 5, 6, 7, 8, 9 and 2 more",
        ),
        ({3: [segment(3), segment(4, 5)]}, "prediction: segment 4 has the unknown category_id 5"),
        ({1: [segment(1, 5), segment(2)]}, "truth: segment 1 has the unknown category_id 5"),
        ({3: [segment(3), segment(4), segment(3)]}, "prediction: segment 3 is listed twice"),
        ({3: [segment(3), segment(4), segment(0)]}, "prediction: segment id 0 is listed"),
        ({2: [[3, -4]]}, "prediction: segment ids -4 are in the map"),
        ({2: [[3], [4]]}, "prediction: 1x2 pixels, but the truth (truth) has 2x1"),
        ({2: [[3.0, 4.0]]}, "prediction: segment ids of type float64"),
        ({2: [3, 4]}, "shape [2], expected integers [H, W]"),
        ({3: [segment(3), {"id": 4}]}, 'expected whole numbers as "id" and "category_id"'),
        ({3: [segment(3), segment("4")]}, 'expected whole numbers as "id" and "category_id"'),
    ],
)
def test_contradictions_are_named(changes, message):
    image = [changes.get(position, value) for position, value in enumerate(GOOD)]
    with pytest.raises(DatasetError) as caught:
        count(*image)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sum(count(*GOOD).fn) == 0
