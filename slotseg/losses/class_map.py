"""Classes of pixels, for the features that slots are made of."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode
from torch import Tensor

from slotseg.losses.base import WeightedLoss
from slotseg.losses.classes import check_categories
from slotseg.losses.coverage import coverage, shares_of_classes
from slotseg.losses.step import TrainingStep
from slotseg.losses.things import guess_of, require_guess


class ClassMapLoss(WeightedLoss):
    """Cross entropy of the initialiser's class of every pixel; void pays nothing, and segments of
    which one is not confident pay less.

    The classes of slots teach the backbone by one vector a slot; this teaches it at every pixel,
    from the first step on, when slots do not yet know what they stand for.
    """

    node = "CLASS_MAP"

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read ``LOSSES.CLASS_MAP``."""
        require_guess(cfg, cls.node)
        return super().from_config(cfg)

    def forward(self, step: TrainingStep) -> dict[str, Tensor]:
        """``{"loss_class_map": scalar}``, mean over pixels with a truth."""
        logits = guess_of(step, self.node).class_logits.float()
        check_categories(step.segment_categories, logits.shape[1], step.file_names)
        shares = coverage(step.segment_maps, logits.shape[-2:])
        classes = (step.segment_categories, logits.shape[1])
        truth = shares_of_classes(shares, *classes, step.segment_confidence)
        entropy = -(logits.log_softmax(dim=1) * truth).sum()
        known = truth if step.segment_confidence is None else shares_of_classes(shares, *classes)
        return self.weighted(entropy / known.sum().clamp_min(1.0))
