"""Inference leaves a model as it found it."""

import pytest
import torch
from detectron2.evaluation import DatasetEvaluator
from torch import nn

from slotseg.engine.inference import evaluate, inference_mode


class Collect(DatasetEvaluator):
    def reset(self):
        self.seen = []

    def process(self, inputs, outputs):
        assert not outputs.requires_grad
        self.seen.append((inputs, outputs.tolist()))

    def evaluate(self):
        return {"seen": self.seen}


def test_modes_come_back_one_by_one():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Dropout()))
    model.train()
    model[1][0].eval()
    before = [module.training for module in model.modules()]
    with pytest.raises(ValueError), inference_mode(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
        raise ValueError
    assert [module.training for module in model.modules()] == before
    assert torch.is_grad_enabled()


def test_evaluate_feeds_every_batch():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    batches = [torch.tensor([[1.0]]), torch.tensor([[2.0], [3.0]])]
    seen = evaluate(model, batches, Collect(), title="test")["seen"]
    assert [outputs for _, outputs in seen] == [[[2.0]], [[4.0], [6.0]]]
