"""Supervised classes of pixels, learnt where the model is sure."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from slotseg.errors import ConfigError, DatasetError
from slotseg.losses.base import WeightedLoss
from slotseg.losses.classes import check_categories
from slotseg.losses.coverage import coverage_of, shares_of_classes
from slotseg.losses.mask_kinds import are_independent, pixel_classes
from slotseg.losses.step import Prediction, TrainingStep
from slotseg.losses.training_log import log_scalar, training_iteration
from slotseg.losses.views import ViewSpec
from slotseg.ops.uncertainty import normalized_entropy, prediction_variance

_MIRRORED = ViewSpec(flip=True)
# Keeps the logarithm of a class that no slot stands for finite.
_TINY = 1e-8


class UncertaintyLoss(WeightedLoss):
    """Cross entropy of every pixel's class, without the pixels that the model is not sure of.

    A pixel's class is ``sum_k p(c | slot k) mask_k`` over the slots, "no object" among the
    classes. Its uncertainty, between 0 and 1, is measured without a gradient:

    * ``"entropy"``: entropy of these probabilities over the logarithm of their number;
    * ``"iteration_variance"``: variance between the predictions from the slots after every
      iteration, summed over classes (:func:`prediction_variance`);
    * ``"view_variance"``: the same between the image and its mirror image.

    Where it is above the threshold, the pixel is dropped or its weight is threshold over
    uncertainty. The sum is divided by the number of pixels with a truth, kept or not: dropping
    most of them makes a small loss rather than large steps from the few that stay. Segments that
    come with a confidence count as much as this.

    This is for labels that may be wrong: noisy ones, or a model's own (pseudo labels). There a
    pixel that the model is not sure of is more likely to be labelled wrongly too. With true labels
    these are the pixels to learn most from, and plain cross entropy (threshold 1) is better.
    As long as nothing is learnt everything is uncertain; so the threshold goes down from 1, where
    every pixel counts, in the first iterations. Outside of a training (without Detectron2's
    event storage) the warm-up counts as over.

    Args:
        weight: factor of the loss.
        measure: what uncertainty is; see above.
        threshold: highest uncertainty of a pixel that counts fully, in (0, 1].
        mode: "drop" or "down_weight".
        warm_up: iterations in which the threshold falls linearly from 1; 0: none.
        independent_masks: masks are sigmoids; they are divided by their sum.
    """

    node = "UNCERTAINTY"

    @configurable
    def __init__(
        self,
        *,
        weight: float,
        measure: str = "entropy",
        threshold: float = 0.1,
        mode: str = "drop",
        warm_up: int = 0,
        independent_masks: bool = False,
    ) -> None:
        super().__init__(weight=weight)
        measures = ("entropy", "iteration_variance", "view_variance")
        if measure not in measures:
            raise ConfigError(
                f"LOSSES.UNCERTAINTY.MEASURE: {measure!r} is unknown; {', '.join(measures)}"
            )
        if mode not in ("drop", "down_weight"):
            raise ConfigError(f"LOSSES.UNCERTAINTY.MODE: {mode!r} is unknown; drop or down_weight")
        if not 0.0 < threshold <= 1.0:
            raise ConfigError(
                f"LOSSES.UNCERTAINTY.THRESHOLD: {threshold} should be above 0 and at most 1"
            )
        self.measure = measure
        self.threshold = threshold
        self.mode = mode
        self.warm_up = warm_up
        self.independent_masks = independent_masks
        self.views = (_MIRRORED,) if measure == "view_variance" else ()
        self.needs_earlier = measure == "iteration_variance"

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read ``LOSSES.UNCERTAINTY``."""
        node = cfg.LOSSES.UNCERTAINTY
        if not cfg.MODEL.HEAD.NAME:
            raise ConfigError(
                "LOSSES.UNCERTAINTY.WEIGHT is above 0, but no slot has a class; set "
                "MODEL.HEAD.NAME to PanopticHead or the weight to 0"
            )
        return {
            **super().from_config(cfg),
            "independent_masks": are_independent(cfg),
            "measure": node.MEASURE,
            "threshold": node.THRESHOLD,
            "mode": node.MODE,
            "warm_up": node.WARM_UP,
        }

    def forward(self, step: TrainingStep) -> dict[str, Tensor]:
        """``{"loss_uncertainty": scalar}``; 0 for a batch that is void. The share of pixels that
        counted, and the threshold, are logged.
        """
        if step.segment_maps is None or step.segment_categories is None:
            raise DatasetError(
                f"{step.file_names[0]}: has no masks with classes, but LOSSES.UNCERTAINTY.WEIGHT "
                "is above 0; train on a panoptic set or set the weight to 0"
            )
        probabilities = self.class_map(step.prediction)
        num_classes = probabilities.shape[1] - 1
        check_categories(step.segment_categories, num_classes, step.file_names)
        shares = coverage_of(step.segment_maps, step.prediction)
        classes = (step.segment_categories, num_classes)
        known = shares_of_classes(shares, *classes).sum(dim=1)
        truth = shares_of_classes(shares, *classes, step.segment_confidence)
        threshold = self.current_threshold()
        counts = self._counts(self._uncertainty(step, probabilities), threshold)
        entropy = -(truth * (probabilities[:, :-1] + _TINY).log()).sum(dim=1)
        num_known = known.sum().clamp_min(1.0)
        log_scalar("uncertainty/kept", (counts * known).sum() / num_known)
        log_scalar("uncertainty/threshold", threshold)
        return self.weighted((counts * entropy).sum() / num_known)

    def class_map(self, prediction: Prediction) -> Tensor:
        """``[B, C + 1, h, w]``, the classes of every pixel; they sum to 1, the last "no object"."""
        return pixel_classes(
            prediction.mask_logits, prediction.class_logits, self.independent_masks
        )

    def current_threshold(self) -> float:
        """The threshold at this iteration of the training."""
        iteration = training_iteration()
        if iteration is None or iteration >= self.warm_up:
            return self.threshold
        return 1.0 + (self.threshold - 1.0) * iteration / self.warm_up

    @torch.no_grad()
    def _uncertainty(self, step: TrainingStep, probabilities: Tensor) -> Tensor:
        """``[B, h, w]`` in 0..1."""
        if self.measure == "entropy":
            return normalized_entropy(probabilities, dim=1)
        if self.measure == "view_variance":
            mirrored = self.class_map(step.views[_MIRRORED].prediction)
            others = [_MIRRORED.back(mirrored, probabilities.shape[-2:])]
        elif step.earlier:
            others = [self.class_map(prediction) for prediction in step.earlier]
        else:
            raise ConfigError(
                'LOSSES.UNCERTAINTY.MEASURE "iteration_variance" compares the predictions of all '
                "iterations, but there is one only; set MODEL.SLOTS.GROUPING.ITERATIONS above 1 or "
                "choose another measure"
            )
        return prediction_variance(torch.stack([*others, probabilities]), dim=2)

    def _counts(self, uncertainty: Tensor, threshold: float) -> Tensor:
        """How much every pixel counts, ``[B, h, w]`` in 0..1."""
        if self.mode == "drop":
            # Entropies of uniform classes are rounded to a little above 1.
            return (uncertainty.clamp_max(1.0) <= threshold).float()
        return (threshold / uncertainty.clamp_min(threshold)).float()
