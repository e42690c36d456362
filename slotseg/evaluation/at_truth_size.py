"""Score a prediction of one size against true segments of another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from detectron2.evaluation import DatasetEvaluator

from slotseg.ops.resize import resize_ids


class AtTruthSize(DatasetEvaluator):
    """Hands predictions on to another evaluator at the size of ``segment_map``.

    Panoptic models answer at the size of the file, while the mapper's ``segment_map`` has the size
    of the model's input, at which object-centric scores (ARI, mBO) are usually given. Segment ids
    are brought there by nearest neighbour, as true masks are.

    Args:
        evaluator: gets every image with a ``panoptic_seg`` as large as its ``segment_map``.
    """

    def __init__(self, evaluator: DatasetEvaluator) -> None:
        self._evaluator = evaluator

    def reset(self) -> None:
        """Forget all images."""
        self._evaluator.reset()

    def process(
        self, inputs: Iterable[Mapping[str, Any]], outputs: Iterable[Mapping[str, Any]]
    ) -> None:
        """Resize and hand on one batch; an image without true segments goes on as it is."""
        inputs = list(inputs)
        fitted = [_fit(item, output) for item, output in zip(inputs, outputs, strict=True)]
        self._evaluator.process(inputs, fitted)

    def evaluate(self) -> Any:
        """The scores of the wrapped evaluator."""
        return self._evaluator.evaluate()


def _fit(item: Mapping[str, Any], output: Mapping[str, Any]) -> Mapping[str, Any]:
    truth = item.get("segment_map")
    if truth is None:
        return output
    ids, segments_info = output["panoptic_seg"]
    return {**output, "panoptic_seg": (resize_ids(ids, tuple(truth.shape)), segments_info)}
