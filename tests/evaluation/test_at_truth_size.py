"""Predictions are brought to the size of the truth, ids and all."""

from __future__ import annotations

import torch

from slotseg.evaluation.at_truth_size import AtTruthSize
from slotseg.evaluation.slot_evaluator import SlotEvaluator


class Recorder:
    def reset(self):
        self.seen = []

    def process(self, inputs, outputs):
        self.seen += zip(inputs, outputs, strict=True)

    def evaluate(self):
        return {"seen": len(self.seen)}


def test_ids_stay_exact_and_infos_go_along():
    inner = Recorder()
    evaluator = AtTruthSize(inner)
    evaluator.reset()
    large = 2**31 - 1
    ids = torch.tensor([[1, large], [0, 7]], dtype=torch.int32)
    ids = ids.repeat_interleave(4, 0).repeat_interleave(4, 1)
    info = [{"id": 1}]
    truth = torch.zeros(2, 2, dtype=torch.int64)
    output = {"panoptic_seg": (ids, info), "attention": torch.zeros(1)}
    evaluator.process([{"segment_map": truth}, {"file_name": "x"}], [output, output])
    assert evaluator.evaluate() == {"seen": 2}
    (_, fitted), (_, untouched) = inner.seen
    assert fitted["panoptic_seg"][0].tolist() == [[1, large], [0, 7]]
    assert fitted["panoptic_seg"][0].dtype == torch.int32
    assert fitted["panoptic_seg"][1] is info
    assert "attention" in fitted
    assert untouched is output
    assert output["panoptic_seg"][0].shape == (8, 8)


def test_a_perfect_large_prediction_scores_one():
    truth = torch.zeros(6, 8, dtype=torch.int64)
    truth[1:4, 2:6] = 1
    truth[5] = -1
    item = {
        "file_name": "a.png",
        "segment_map": truth,
        "segment_is_object": torch.tensor([False, True]),
    }
    ids = (truth.clamp(min=0) + 5).repeat_interleave(3, 0).repeat_interleave(3, 1)
    evaluator = AtTruthSize(SlotEvaluator("set"))
    evaluator.reset()
    evaluator.process([item], [{"panoptic_seg": (ids, [])}])
    scores = evaluator.evaluate()["slots"]
    assert scores["ARI"] == scores["mBO"] == 1.0
    assert (scores["height"], scores["width"]) == (6, 8)
