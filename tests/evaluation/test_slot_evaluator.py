"""The evaluator equals the functions on any split of the data, and refuses what it cannot score."""

from __future__ import annotations

import logging
import math

import pytest
import torch
from detectron2.evaluation import DatasetEvaluators, inference_on_dataset
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm

from slotseg.errors import ConfigError, DatasetError
from slotseg.evaluation import (
    DEFINITIONS,
    SlotEvaluator,
    attention_segments,
    contingency_table,
    masks_of,
    read_image_scores,
    score_tables,
)


def scene(index: int, size: tuple[int, int] = (12, 10), objects: int = 3, slots: int = 5):
    generator = torch.Generator().manual_seed(index)
    truth = torch.randint(0, objects + 1, size, generator=generator)
    noise = torch.randint(0, slots, size, generator=generator)
    keep = torch.rand(size, generator=generator) < 0.7
    pred = torch.where(keep, truth % slots, noise) + 1
    truth[0, 0] = -1
    item = {
        "file_name": f"images/{index:03d}.png",
        "image_id": str(index),
        "segment_map": truth,
        "segment_is_object": torch.arange(objects + 1) > 0,
    }
    return item, {"panoptic_seg": (pred.int(), [])}


def score(scenes, **kwargs) -> dict[str, float]:
    evaluator = SlotEvaluator("toy", **kwargs)
    evaluator.reset()
    for batch in scenes:
        evaluator.process(*zip(*batch, strict=True))
    return evaluator.evaluate()["slots"]


def batches(scenes, size):
    return [scenes[start : start + size] for start in range(0, len(scenes), size)]


def test_equals_the_functions_for_mixed_sizes_and_any_batching():
    scenes = [scene(i, size=(12, 10 + i % 2), objects=1 + i % 4) for i in range(9)]
    expected: dict[str, list[float]] = {}
    for item, output in scenes:
        pred = output["panoptic_seg"][0].long()[None]
        is_object = item["segment_is_object"][None]
        table = contingency_table(pred, item["segment_map"][None], 6, is_object.shape[1])
        is_segment = torch.arange(6)[None] > 0
        for name, value in score_tables(table, is_object, is_segment).items():
            expected.setdefault(name, []).append(value.item())
    results = score(batches(scenes, 4))
    for name, values in expected.items():
        assert results[name] == pytest.approx(sum(values) / len(values), abs=1e-12)
    assert results["images"] == 9
    assert (results["height"], results["width"]) == (12, 11)
    assert score(batches(scenes, 1)) == results == score(batches(scenes[::-1], 9))


def test_results_are_floats_as_detectron2_wants_and_all_are_defined_in_words():
    results = score(batches([scene(0)], 1))
    flat = flatten_results_dict({"slots": results})
    assert all(isinstance(value, float) for value in flat.values())
    assert set(results) == set(DEFINITIONS)


def test_perfect_prediction():
    item, _ = scene(0)
    results = score([[(item, {"panoptic_seg": (item["segment_map"] + 1, [])})]])
    assert [results[name] for name in ("ARI", "FG-ARI", "mBO", "mIoU")] == [1, 1, 1, 1]
    assert results["slots_in_use"] == 4
    assert results["slots_per_object"] == 1


def test_images_without_foreground_are_left_out_and_counted(caplog):
    empty, output = scene(1)
    empty["segment_map"] = empty["segment_map"].clamp(max=0)
    with caplog.at_level(logging.INFO, logger="slotseg.evaluation.slot_evaluator"):
        both = score([[scene(0), (empty, output)]])
    alone = score([[scene(0)]])
    assert both["images"] == 2
    assert both["images_without_foreground"] == 1
    for name in ("FG-ARI", "mBO", "mIoU", "slots_per_object", "objects_split"):
        assert both[name] == alone[name]
    assert both["ARI"] != alone["ARI"]
    assert "1 of them without foreground" in caplog.text
    none = score([[(empty, output)]])
    assert math.isnan(none["FG-ARI"])
    assert not math.isnan(none["ARI"])


def test_log_line_states_resolution_and_mask_source(caplog):
    with caplog.at_level(logging.INFO, logger="slotseg.evaluation.slot_evaluator"):
        score([[scene(0)]])
    assert "toy: ARI 0." in caplog.text
    assert "12x10 (height x width), decoder masks" in caplog.text


def test_attention_masks_are_upsampled_before_the_argmax():
    attention = torch.zeros(2, 1, 2)
    attention[0, 0, 0] = attention[1, 0, 1] = 1.0
    assert attention_segments(attention, (2, 4)).tolist() == [[1, 1, 2, 2]] * 2
    # Centres of pixels, not corners, are what is interpolated between.
    uneven = torch.tensor([[[1.0, 0.0]], [[0.75, 0.75]]])
    assert attention_segments(uneven, (1, 10)).tolist() == [[1] * 4 + [2] * 6]
    item, output = scene(0, size=(2, 4), objects=2)
    item["segment_map"] = torch.tensor([[1, 1, 2, 2]] * 2)
    output["attention"] = attention
    results = score([[(item, output)]], mask_source="attention")
    assert results["ARI"] == 1
    assert results["attention_masks"] == 1
    with pytest.raises(ValueError, match="attention must be"):
        attention_segments(attention[0], (2, 4))


def test_unassigned_and_negative_ids_do_not_escape_the_score():
    item, _ = scene(0)
    perfect = item["segment_map"] + 1
    unassigned = torch.where(perfect == 2, 0, perfect)
    results = score([[(item, {"panoptic_seg": (unassigned, [])})]])
    assert results["mBO"] == pytest.approx(2 / 3)
    assert results["objects_missed"] == pytest.approx(1 / 3)
    void = torch.where(perfect == 2, -1, perfect)
    assert score([[(item, {"panoptic_seg": (void, [])})]]) == results


def test_large_sparse_ids_of_other_models_score_the_same():
    item, output = scene(0)
    pred = output["panoptic_seg"][0]
    expected = score([[(item, output)]])
    large = {"panoptic_seg": (torch.where(pred == 1, 0, pred * 26_001), [])}
    small = {"panoptic_seg": (torch.where(pred == 1, 0, pred), [])}
    assert score([[(item, large)]]) == score([[(item, small)]])
    assert score([[(item, {"panoptic_seg": (pred * 26_001, [])})]]) == expected


def test_what_cannot_be_scored_is_refused_by_name():
    item, output = scene(7)
    without = {key: value for key, value in item.items() if key != "segment_map"}
    with pytest.raises(DatasetError, match=r"007\.png: toy has no masks"):
        score([[(without, output)]])
    with pytest.raises(DatasetError, match=r"007\.png: the prediction is 10x11"):
        score([[(item, {"panoptic_seg": (output["panoptic_seg"][0][:-1], [])})]])
    broken = item | {"segment_map": item["segment_map"] + 9}
    with pytest.raises(DatasetError, match=r"007\.png: true holds"):
        score([[(broken, output)]])
    with pytest.raises(DatasetError, match="no image was scored"):
        score([])
    with pytest.raises(ConfigError, match=r"TEST\.MASK_SOURCE"):
        SlotEvaluator("toy", mask_source="both")
    with pytest.raises(ConfigError, match="no attention"):
        score([[(item, output)]], mask_source="attention")


def test_reset_forgets():
    evaluator = SlotEvaluator("toy")
    evaluator.process(*zip(scene(0), strict=True))
    evaluator.reset()
    evaluator.process(*zip(scene(1), strict=True))
    assert evaluator.evaluate()["slots"] == score([[scene(1)]])


def test_per_image_file_finds_the_worst_image(tmp_path):
    bad, _ = scene(5)
    bad_output = {"panoptic_seg": (torch.ones(12, 10, dtype=torch.int32), [])}
    results = score([[scene(0), (bad, bad_output), scene(2)]], output_dir=str(tmp_path))
    rows = read_image_scores(str(tmp_path / "toy_images.csv"))
    worst = min(rows, key=lambda row: row.scores["ARI"])
    assert worst.file_name == "images/005.png"
    assert (worst.height, worst.width, worst.mask_source, worst.objects) == (
        12,
        10,
        "decoder",
        3,
    )
    assert sum(row.scores["ARI"] for row in rows) / 3 == pytest.approx(results["ARI"])


def test_ranks_are_reduced(monkeypatch, tmp_path):
    scenes = [scene(i, size=(12, 10 + i % 2)) for i in range(7)]
    expected = score(batches(scenes, 7))
    shards = [scenes[0::2], scenes[1::2], []]
    evaluators = []
    for shard in shards:
        evaluator = SlotEvaluator("toy", output_dir=str(tmp_path))
        for item, output in shard:
            evaluator.process([item], [output])
        evaluators.append(evaluator)
    sent: list = []
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    monkeypatch.setattr(comm, "gather", lambda data, dst=0: sent.append(data) or [])
    assert [evaluator.evaluate() for evaluator in evaluators[1:]] == [{}, {}]
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(comm, "is_main_process", lambda: True)
    monkeypatch.setattr(comm, "gather", lambda data, dst=0: [data, *sent])
    assert evaluators[0].evaluate()["slots"] == expected
    assert len(read_image_scores(str(tmp_path / "toy_images.csv"))) == 7


def test_works_with_detectron2s_inference_loop():
    scenes = [scene(i) for i in range(4)]
    outputs = {item["image_id"]: output for item, output in scenes}

    class Model(torch.nn.Module):
        def forward(self, inputs):
            return [outputs[item["image_id"]] for item in inputs]

    loader = [[item for item, _ in batch] for batch in batches(scenes, 2)]
    evaluator = DatasetEvaluators([SlotEvaluator("toy")])
    results = inference_on_dataset(Model(), loader, evaluator)
    assert results["slots"] == score(batches(scenes, 4))


def test_parents_masks_are_the_sums_of_their_sub_slots():
    item, output = scene(0, size=(2, 4), objects=2)
    item["segment_map"] = torch.tensor([[1, 1, 2, 2]] * 2)
    # Two sub-slots share the left object; neither is the largest mask there.
    masks = torch.zeros(4, 1, 2)
    masks[:, 0, 0] = torch.tensor([0.32, 0.32, 0.36, 0.0])
    masks[:, 0, 1] = torch.tensor([0.0, 0.2, 0.5, 0.3])
    output |= {
        "slot_masks": masks,
        "parent_of": torch.tensor([0, 0, 1, 1]),
        "parent_attention": torch.full((2, 1, 2), 0.5),
    }
    torch.testing.assert_close(
        masks_of(output, "parents"), torch.tensor([[[0.64, 0.2]], [[0.36, 0.8]]])
    )
    results = score([[(item, output)]], mask_source="parents")
    assert results["ARI"] == 1
    assert (results["parent_masks"], results["attention_masks"]) == (1, 0)
    assert score([[scene(0)]])["parent_masks"] == 0


def test_a_model_of_one_level_has_no_parents_masks():
    item, output = scene(0)
    output["slot_masks"] = torch.full((2, 1, 2), 0.5)
    assert masks_of(output, "parents") is None
    with pytest.raises(ConfigError, match="no parents masks; use decoder"):
        score([[(item, output)]], mask_source="parents")
