"""Run a model over a data set and score it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from torch import nn
from tqdm import tqdm


@contextmanager
def inference_mode(model: nn.Module) -> Iterator[nn.Module]:
    """The model in evaluation mode without gradients; afterwards every module as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield model
    finally:
        for module, training in modes:
            module.training = training


def evaluate(
    model: nn.Module,
    loader: Iterable[list[dict[str, Any]]],
    evaluator: DatasetEvaluator,
    *,
    title: str,
) -> dict[str, Any]:
    """Feed every batch of this rank to the model and the evaluator.

    Returns:
        What ``evaluator.evaluate()`` returns: scores on the main rank, ``{}`` on the others.
    """
    evaluator.reset()
    with inference_mode(model):
        bar = tqdm(
            loader,
            desc=title,
            unit="batch",
            leave=False,
            dynamic_ncols=True,
            # None: only on a terminal.
            disable=None if comm.is_main_process() else True,
        )
        for batch in bar:
            evaluator.process(batch, model(batch))
    return evaluator.evaluate() or {}
