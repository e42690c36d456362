"""Clustering scores against hand-computed cases, scikit-learn and their own invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from slotseg.evaluation import (
    adjusted_rand_index,
    contingency_table,
    foreground_adjusted_rand_index,
    hungarian_mean_iou,
    mean_best_overlap,
    pairwise_iou,
)


def table_of(*rows: list[float]) -> torch.Tensor:
    return torch.tensor([rows], dtype=torch.float64)


def ari(pred, true) -> float:
    pred, true = torch.as_tensor(pred)[None], torch.as_tensor(true)[None]
    count = int(max(pred.max(), true.max())) + 1
    return adjusted_rand_index(contingency_table(pred, true, count, count)).item()


@st.composite
def two_labelings(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    size = draw(st.integers(2, 60))
    labels = st.lists(st.integers(0, draw(st.integers(0, 6))), min_size=size, max_size=size)
    return np.array(draw(labels)), np.array(draw(labels))


class TestContingencyTable:
    def test_counts_by_hand_and_leaves_void_out_on_both_sides(self):
        pred = torch.tensor([[[0, 0, 1], [1, -1, 1]], [[1, 1, 1], [1, 1, 1]]])
        true = torch.tensor([[[0, 2, 2], [-1, 0, 2]], [[0, 0, 0], [1, 1, 2]]])
        table = contingency_table(pred, true, 2, 3)
        assert table.dtype == torch.float64
        assert table.tolist() == [[[1, 0, 1], [0, 0, 2]], [[0, 0, 0], [3, 2, 1]]]

    def test_valid_removes_pixels(self):
        pred = torch.tensor([[0, 1, 1]])
        valid = torch.tensor([[True, True, False]])
        assert contingency_table(pred, pred, 2, 2, valid).tolist() == [[[1, 0], [0, 1]]]

    def test_takes_int32_and_uint8(self):
        pred = torch.tensor([[0, 1]], dtype=torch.int32)
        true = torch.tensor([[0, 1]], dtype=torch.uint8)
        assert contingency_table(pred, true, 2, 2).tolist() == [[[1, 0], [0, 1]]]

    @pytest.mark.parametrize(
        ("pred", "true", "valid", "message"),
        [
            (torch.zeros(1, 4).long(), torch.zeros(1, 5).long(), None, "one shape"),
            (torch.zeros(4).long(), torch.zeros(4).long(), None, "one shape"),
            (torch.zeros(1, 4), torch.zeros(1, 4).long(), None, "integer"),
            (torch.zeros(1, 4).bool(), torch.zeros(1, 4).long(), None, "integer"),
            (torch.full((1, 4), 2), torch.zeros(1, 4).long(), None, "pred holds .* to 2"),
            (torch.zeros(1, 4).long(), torch.full((1, 4), -2), None, "true holds .* from -2"),
            (torch.zeros(1, 4).long(), torch.zeros(1, 4).long(), torch.ones(1, 4), "valid"),
        ],
    )
    def test_rejects_wrong_input(self, pred, true, valid, message):
        with pytest.raises(ValueError, match=message):
            contingency_table(pred, true, 2, 2, valid)

    def test_rejects_no_segments_and_arrays(self):
        with pytest.raises(ValueError, match="at least 1"):
            contingency_table(torch.zeros(1, 4).long(), torch.zeros(1, 4).long(), 0, 2)
        with pytest.raises(TypeError, match="tensor"):
            contingency_table(torch.zeros(1, 4).long(), np.zeros((1, 4), int), 2, 2)
        with pytest.raises(TypeError, match="tensor"):
            contingency_table(np.zeros((1, 4), int), torch.zeros(1, 4).long(), 2, 2)


class TestAdjustedRandIndex:
    def test_by_hand(self):
        # Pairs out of 6: together in both 1, expected 2 * 1 / 6, largest (2 + 1) / 2.
        assert ari([0, 0, 1, 1], [0, 0, 1, 2]) == pytest.approx((1 - 1 / 3) / (1.5 - 1 / 3))
        assert ari([0, 1, 0, 1], [0, 0, 1, 1]) == pytest.approx(-0.5)

    @settings(max_examples=150, deadline=None)
    @given(two_labelings())
    def test_equals_scikit_learn(self, labels):
        pred, true = labels
        assert ari(pred, true) == pytest.approx(adjusted_rand_score(true, pred), abs=1e-12)

    @settings(max_examples=50, deadline=None)
    @given(two_labelings(), st.randoms(use_true_random=False))
    def test_is_symmetric_and_blind_to_names(self, labels, random):
        pred, true = labels
        names = list(range(7))
        random.shuffle(names)
        assert ari(pred, true) == pytest.approx(ari(true, pred), abs=1e-12)
        assert ari(np.array(names)[pred], true) == pytest.approx(ari(pred, true), abs=1e-12)

    @settings(max_examples=50, deadline=None)
    @given(two_labelings())
    def test_of_itself_is_one_and_never_more(self, labels):
        assert ari(labels[0], labels[0]) == 1.0
        assert ari(*labels) <= 1.0

    @pytest.mark.parametrize("same", [[0, 0, 0, 0], [0, 1, 2, 3], [0]])
    def test_trivial_partitions_on_both_sides_are_one(self, same):
        assert ari(same, same) == 1.0

    def test_one_segment_against_many_is_zero(self):
        assert ari([0, 0, 0, 0], [0, 1, 2, 3]) == 0.0
        assert ari([0, 0, 0, 0], [0, 0, 1, 1]) == 0.0

    def test_nothing_to_score_is_nan(self):
        assert math.isnan(adjusted_rand_index(torch.zeros(1, 2, 3).double()).item())

    @pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
    def test_equals_scikit_learn_at_cityscapes_size(self, noise):
        random = np.random.default_rng(0)
        true = np.add.outer(np.arange(1024) // 200, np.arange(2048) // 500 * 6)
        pred = np.where(random.random(true.shape) < noise, random.integers(0, 30, true.shape), true)
        expected = adjusted_rand_score(true.ravel(), pred.ravel())
        assert ari(pred, true) == pytest.approx(expected, abs=1e-9)

    def test_keeps_its_digits_where_the_textbook_form_cancels(self):
        pred, true = np.zeros((2, 1024 * 2048), int)
        pred[0] = true[1] = 1
        expected = adjusted_rand_score(true, pred)
        assert expected != 0
        assert ari(pred, true) == pytest.approx(expected, rel=1e-9)
        true[0] = 1
        assert ari(pred, true) == pytest.approx(adjusted_rand_score(true, pred), abs=1e-12)

    def test_same_under_autocast_and_without_gradients(self):
        table = table_of([900_001.0, 3.0, 7.0], [5.0, 800_003.0, 11.0]).requires_grad_()
        expected = adjusted_rand_index(table)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = adjusted_rand_index(table)
        assert inside.dtype == torch.float64
        assert torch.equal(inside, expected)
        assert not inside.requires_grad

    def test_batch_equals_singles(self):
        tables = torch.randint(0, 50, (5, 4, 3), generator=torch.Generator().manual_seed(0))
        tables = tables.double()
        singles = torch.cat([adjusted_rand_index(table[None]) for table in tables])
        assert torch.equal(adjusted_rand_index(tables), singles)

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            (torch.zeros(2, 2).double(), "float64"),
            (torch.zeros(1, 2, 2), "float64"),
            (torch.zeros(1, 0, 2).double(), "at least one"),
            (table_of([-1.0, 2.0]), "not negative"),
            (table_of([math.inf, 2.0]), "finite"),
            (table_of([1e8, 2.0]), "smaller image"),
        ],
    )
    def test_rejects_what_is_no_table(self, table, message):
        with pytest.raises(ValueError, match=message):
            adjusted_rand_index(table)


class TestForegroundAdjustedRandIndex:
    @settings(max_examples=80, deadline=None)
    @given(two_labelings())
    def test_equals_scikit_learn_on_foreground_pixels(self, labels):
        pred, true = labels
        table = contingency_table(torch.tensor(pred)[None], torch.tensor(true)[None], 7, 7)
        objects = torch.arange(7)[None] > 0
        score = foreground_adjusted_rand_index(table, objects).item()
        if (true > 0).any():
            expected = adjusted_rand_score(true[true > 0], pred[true > 0])
            assert score == pytest.approx(expected, abs=1e-12)
        else:
            assert math.isnan(score)

    def test_predicted_background_stays(self):
        # Half of the only object lies in the segment that holds the background.
        table = table_of([50.0, 5.0], [0.0, 5.0])
        assert foreground_adjusted_rand_index(table, torch.tensor([[False, True]])).item() == 0.0

    def test_a_hidden_object_does_not_count_as_foreground(self):
        table = table_of([50.0, 0.0])
        score = foreground_adjusted_rand_index(table, torch.tensor([[False, True]]))
        assert math.isnan(score.item())

    def test_rejects_flags_of_another_size(self):
        with pytest.raises(ValueError, match=r"is_object must be bool \[1, 2\]"):
            foreground_adjusted_rand_index(table_of([1.0, 1.0]), torch.tensor([[True]]))
        with pytest.raises(ValueError, match="is_object"):
            foreground_adjusted_rand_index(table_of([1.0, 1.0]), torch.tensor([[1, 0]]))
        with pytest.raises(TypeError, match="is_object"):
            foreground_adjusted_rand_index(table_of([1.0, 1.0]), [[True, False]])


class TestOverlaps:
    objects = torch.tensor([[False, True, True]])

    def test_iou_by_hand(self):
        iou = pairwise_iou(table_of([6.0, 2.0], [0.0, 4.0]))
        assert iou[0].tolist() == [[6 / 8, 2 / 12], [0, 4 / 6]]
        assert pairwise_iou(torch.zeros(1, 2, 2).double()).tolist() == [[[0, 0], [0, 0]]]

    def test_one_segment_serves_two_objects_only_without_matching(self):
        # Both objects (4 pixels each) lie in one segment of 8: IoU 1/2 each.
        table = table_of([10.0, 0.0, 0.0], [0.0, 4.0, 4.0])
        assert mean_best_overlap(table, self.objects).item() == pytest.approx(0.5)
        assert hungarian_mean_iou(table, self.objects).item() == pytest.approx(0.25)

    def test_only_the_best_part_of_a_split_object_counts(self):
        table = table_of([9.0, 0.0], [0.0, 6.0], [0.0, 2.0])
        objects = torch.tensor([[False, True]])
        assert mean_best_overlap(table, objects).item() == 0.75
        assert hungarian_mean_iou(table, objects).item() == 0.75

    def test_objects_beyond_the_number_of_segments_score_zero(self):
        table = table_of([0.0, 5.0, 3.0, 2.0])
        objects = torch.tensor([[False, True, True, True]])
        assert hungarian_mean_iou(table, objects).item() == pytest.approx(0.5 / 3)

    def test_matching_is_optimal_not_greedy(self):
        # Greedy takes the largest IoU, 6/14, and leaves 0; the best sum is 4/10 + 4/10.
        table = table_of([0.0, 6.0, 4.0], [0.0, 4.0, 0.0], [12.0, 0.0, 0.0])
        iou = pairwise_iou(table)[0, :, 1:]
        assert iou[0, 0] > max(iou[0, 1], iou[1, 0])
        best = (iou[0, 1] + iou[1, 0]).item()
        assert best > iou[0, 0] + iou[1, 1]
        assert hungarian_mean_iou(table, self.objects).item() == pytest.approx(best / 2)

    def test_background_is_no_object_but_its_pixels_count_in_the_union(self):
        table = table_of([0.0, 4.0, 0.0], [10.0, 0.0, 4.0])
        expected = (1 + 4 / 14) / 2
        assert mean_best_overlap(table, self.objects).item() == pytest.approx(expected)
        assert hungarian_mean_iou(table, self.objects).item() == pytest.approx(expected)

    def test_unassigned_pixels_are_no_segment(self):
        table = table_of([0.0, 4.0, 0.0], [10.0, 0.0, 4.0])
        segments = torch.tensor([[False, True]])
        expected = 4 / 14 / 2
        assert mean_best_overlap(table, self.objects, segments).item() == pytest.approx(expected)
        assert hungarian_mean_iou(table, self.objects, segments).item() == pytest.approx(expected)

    def test_hidden_objects_do_not_count_and_none_is_nan(self):
        table = table_of([10.0, 0.0, 0.0], [0.0, 5.0, 0.0])
        for score in (mean_best_overlap, hungarian_mean_iou):
            assert score(table, self.objects).item() == 1.0
            assert math.isnan(score(table, torch.tensor([[True, False, False]]) & False).item())
            assert math.isnan(score(table * 0, self.objects).item())

    @settings(max_examples=80, deadline=None)
    @given(two_labelings())
    def test_order_bounds_and_perfection(self, labels):
        pred, true = (torch.tensor(side)[None] for side in labels)
        objects = torch.arange(7)[None] > 0
        table = contingency_table(pred, true, 7, 7)
        best = mean_best_overlap(table, objects).item()
        matched = hungarian_mean_iou(table, objects).item()
        if math.isnan(best):
            assert math.isnan(matched)
            return
        assert 0 <= matched <= best + 1e-12 <= 1 + 2e-12
        shuffled = table[:, torch.randperm(7, generator=torch.Generator().manual_seed(1))]
        assert hungarian_mean_iou(shuffled, objects).item() == pytest.approx(matched, abs=1e-12)
        same = contingency_table(true, true, 7, 7)
        assert hungarian_mean_iou(same, objects).item() == 1.0

    def test_batch_equals_singles(self):
        generator = torch.Generator().manual_seed(0)
        tables = torch.randint(0, 50, (6, 5, 3), generator=generator).double()
        tables[2, :, 1] = 0
        objects = self.objects.expand(6, 3)
        for score in (mean_best_overlap, hungarian_mean_iou):
            singles = torch.cat([score(table[None], self.objects) for table in tables])
            assert torch.equal(score(tables, objects), singles)
