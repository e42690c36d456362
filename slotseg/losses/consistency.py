"""Without labels: an image says the same at every scale."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from torch import Tensor

from slotseg.errors import ConfigError
from slotseg.losses.base import WeightedLoss
from slotseg.losses.mask_kinds import are_independent, mask_values
from slotseg.losses.step import Prediction, TrainingStep
from slotseg.losses.views import ViewSpec
from slotseg.ops.pairing import Pairs, pair_by_overlap


class ScaleConsistencyLoss(WeightedLoss):
    """Predictions at several scales agree after resizing.

    The images are seen at other scales too, those masks are resized to the first ones' size, and
    the slots of both are paired by the overlap of their masks (:func:`pair_by_overlap`). Every
    pixel then pays the Kullback-Leibler divergence of its slots' shares from those at the other
    scale. The stronger side teaches: at each pixel the one whose highest share is larger gets no
    gradient, so that what is sure at one scale spreads to the other and never the reverse.

    The classes of paired slots are compared likewise, slot by slot, each pair counting as much
    as its masks overlap: slots that are paired only because they are left over do not count.

    Every scale costs a forward and backward pass over its images (a quarter at 0.5).

    Args:
        weight: factor of the loss.
        scales: factors on height and width, each another view; 1 is the image itself.
        class_weight: factor, on top, of the divergence of the classes; 0 for models without any.
        independent_masks: masks are sigmoids; compared one by one, summed over slots.
    """

    node = "CONSISTENCY"

    @configurable
    def __init__(
        self,
        *,
        weight: float,
        scales: tuple[float, ...],
        class_weight: float = 0.0,
        independent_masks: bool = False,
    ) -> None:
        super().__init__(weight=weight)
        if not scales or any(scale <= 0.0 or scale == 1.0 for scale in scales):
            raise ConfigError(
                f"LOSSES.CONSISTENCY.SCALES: {list(scales)} should be at least one factor above 0 "
                "other than 1, such as 0.5"
            )
        self.views = tuple(ViewSpec(scale=float(scale)) for scale in scales)
        self.class_weight = class_weight
        self.independent_masks = independent_masks

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read ``LOSSES.CONSISTENCY``."""
        node = cfg.LOSSES.CONSISTENCY
        return {
            **super().from_config(cfg),
            "independent_masks": are_independent(cfg),
            "scales": tuple(node.SCALES),
            "class_weight": node.CLASS_WEIGHT if cfg.MODEL.HEAD.NAME else 0.0,
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The masks', and with a class weight the classes'."""
        of_classes = ("loss_consistency_class",) if self.class_weight > 0 else ()
        return ("loss_consistency", *of_classes)

    def forward(self, step: TrainingStep) -> dict[str, Tensor]:
        """``loss_consistency`` and, where classes are compared, ``loss_consistency_class``, each
        a mean over the scales.
        """
        base = step.prediction
        masks, classes = zip(
            *(self._compare(base, step.views[view].prediction, view) for view in self.views),
            strict=True,
        )
        losses = self.weighted(torch.stack(masks).mean())
        if self.class_weight > 0:
            losses["loss_consistency_class"] = (
                self.weight * self.class_weight * torch.stack(classes).mean()
            )
        return losses

    def _compare(
        self, base: Prediction, other: Prediction, view: ViewSpec
    ) -> tuple[Tensor, Tensor | None]:
        """How far the masks and the classes of one view are from those of the images."""
        logits = base.mask_logits.float()
        resized = view.back(other.mask_logits.float(), logits.shape[-2:])
        pairs = pair_by_overlap(
            *(mask_values(x.detach(), self.independent_masks).flatten(2) for x in (logits, resized))
        )
        order = pairs.partner.view(*pairs.partner.shape, 1, 1).expand_as(logits)
        masks = self._mask_divergence(logits, resized.gather(1, order))
        if self.class_weight == 0:
            return masks, None
        return masks, _class_divergence(base.class_logits, other.class_logits, pairs)

    def _mask_divergence(self, first: Tensor, second: Tensor) -> Tensor:
        """Scalar, of mask logits ``[B, K, h, w]`` with their slots in one order."""
        if self.independent_masks:
            return divergence(_inside_or_not(first), _inside_or_not(second), 0).sum(dim=1).mean()
        return divergence(first.log_softmax(dim=1), second.log_softmax(dim=1), 1).mean()


def divergence(first: Tensor, second: Tensor, dim: int) -> Tensor:
    """Kullback-Leibler divergence of the weaker from the stronger of two predictions.

    The one with the higher largest probability is the stronger, and gets no gradient.

    Args:
        first, second: log probabilities of one shape.
        dim: over which they sum to 1.

    Returns:
        The shape without ``dim``; at least 0, and 0 where they are equal.
    """
    first_leads = first.amax(dim, keepdim=True) >= second.amax(dim, keepdim=True)
    teacher = torch.where(first_leads, first, second).detach()
    student = torch.where(first_leads, second, first)
    return (teacher.exp() * (teacher - student)).sum(dim)


def _inside_or_not(logits: Tensor) -> Tensor:
    """``[2, ...]`` log probabilities of being in the mask and of not being in it."""
    return torch.stack([F.logsigmoid(logits), F.logsigmoid(-logits)])


def _class_divergence(first: Tensor, second: Tensor, pairs: Pairs) -> Tensor:
    """Scalar, of class logits ``[B, K, C + 1]``; a pair weighs what its masks overlap."""
    order = pairs.partner.unsqueeze(2).expand_as(first)
    differing = divergence(
        first.float().log_softmax(dim=2), second.float().gather(1, order).log_softmax(dim=2), 2
    )
    return (differing * pairs.overlap).sum() / pairs.overlap.sum().clamp_min(1e-6)
