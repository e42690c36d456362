"""A slot knows itself again in another view of its image."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from slotseg.errors import ConfigError, DatasetError
from slotseg.losses.base import WeightedLoss
from slotseg.losses.coverage import coverage
from slotseg.losses.mask_kinds import are_independent, mask_values
from slotseg.losses.step import TrainingStep
from slotseg.losses.training_log import log_scalar
from slotseg.losses.views import ViewSpec
from slotseg.ops.pairing import pair_by_overlap


class ContrastiveSlotLoss(WeightedLoss):
    """InfoNCE (van den Oord et al. 2018, equation 4) between the slots of two views.

    The rooms see the images a second time, mirrored or at another scale. Slots of both views that
    hold the same pixels are a pair; each of its two slots has to pick the other among all slots
    of the other view, by the cosine of their vectors over a temperature (as in SimCLR, Chen et
    al. 2020). So the vectors of one image's slots are pushed apart, as far as that is possible
    while the same thing stays the same in both views.

    A slot also knows where its thing is, which a mirrored view changes. The vectors that are
    compared are therefore projections of the slots (as SimCLR's), which may leave the place out;
    the slots themselves may keep it.

    The second view costs a second forward and backward pass.

    Args:
        weight: factor of the loss.
        view: how the second view is made of the images.
        temperature: of the softmax over cosines.
        pairs: "overlap": slots are paired by the overlap of their masks; "truth": each view's
            slots are paired with the true segments, and those of one segment with each other.
        min_overlap: pairs whose masks overlap less (:func:`pair_by_overlap`) are none.
        negatives: "image": the other slots of the image; "batch": also those of the other images
            that this process has in its batch.
        projection: slots ``[B, K, D]`` to compared vectors; None: the slots themselves.
        independent_masks: masks are sigmoids.
    """

    node = "CONTRASTIVE"

    @configurable
    def __init__(
        self,
        *,
        weight: float,
        view: ViewSpec,
        temperature: float,
        pairs: str = "overlap",
        min_overlap: float = 0.5,
        negatives: str = "image",
        projection: nn.Module | None = None,
        independent_masks: bool = False,
    ) -> None:
        super().__init__(weight=weight)
        if temperature <= 0.0:
            raise ConfigError(f"LOSSES.CONTRASTIVE.TEMPERATURE: {temperature} should be above 0")
        if pairs not in ("overlap", "truth"):
            raise ConfigError(f"LOSSES.CONTRASTIVE.PAIRS: {pairs!r} is unknown; overlap or truth")
        if negatives not in ("image", "batch"):
            raise ConfigError(
                f"LOSSES.CONTRASTIVE.NEGATIVES: {negatives!r} is unknown; image or batch"
            )
        self.view = view
        self.views = (view,)
        self.temperature = temperature
        self.pairs = pairs
        self.min_overlap = min_overlap
        self.negatives = negatives
        self.projection = nn.Identity() if projection is None else projection
        self.independent_masks = independent_masks

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read ``LOSSES.CONTRASTIVE``."""
        node = cfg.LOSSES.CONTRASTIVE
        if node.SCALE <= 0.0:
            raise ConfigError(f"LOSSES.CONTRASTIVE.SCALE: {node.SCALE} should be above 0")
        return {
            **super().from_config(cfg),
            "independent_masks": are_independent(cfg),
            "view": ViewSpec(scale=node.SCALE, flip=node.FLIP),
            "temperature": node.TEMPERATURE,
            "pairs": node.PAIRS,
            "min_overlap": node.MIN_OVERLAP,
            "negatives": node.NEGATIVES,
            "projection": _projection(cfg.MODEL.SLOTS.DIM, node.PROJECTION_DIM),
        }

    def forward(self, step: TrainingStep) -> dict[str, Tensor]:
        """``{"loss_contrastive": scalar}``, the mean over the pairs and both directions; 0 for a
        batch without a pair. The share of slots that have a partner is logged.
        """
        other = step.views[self.view]
        logits = step.prediction.mask_logits.float()
        resized = self.view.back(other.prediction.mask_logits.float(), logits.shape[-2:])
        partner = self._partners(step, logits.detach(), resized.detach())
        log_scalar("contrastive/paired_slots", (partner >= 0).float().mean())
        first, second = (
            F.normalize(self.projection(slots.float()), dim=-1)
            for slots in (step.slots.slots, other.slots.slots)
        )
        if self.negatives == "batch":
            first, second, partner = _as_one_image(first, second, partner)
        return self.weighted(info_nce(first, second, partner, self.temperature))

    def _partners(self, step: TrainingStep, logits: Tensor, others: Tensor) -> Tensor:
        """``[B, K]`` int64, of every slot its partner in the other view, or -1."""
        masks, others = (
            mask_values(x, self.independent_masks).flatten(2) for x in (logits, others)
        )
        if self.pairs == "overlap":
            partner, overlap = pair_by_overlap(masks, others)
            return partner.masked_fill(overlap < self.min_overlap, -1)
        if step.segment_maps is None:
            raise DatasetError(
                f'{step.file_names[0]}: has no mask, but LOSSES.CONTRASTIVE.PAIRS is "truth"; '
                'train on a set with masks or set it to "overlap"'
            )
        truth = coverage(step.segment_maps, logits.shape[-2:]).flatten(2)
        first, second = (pair_by_overlap(truth, x) for x in (masks, others))
        overlap = torch.minimum(first.overlap, second.overlap)
        # Absent segments, and those beyond the number of slots, overlap nothing.
        image, segment = ((overlap >= self.min_overlap) & (overlap > 0)).nonzero(as_tuple=True)
        partner = torch.full(masks.shape[:2], -1, dtype=torch.int64, device=masks.device)
        partner[image, first.partner[image, segment]] = second.partner[image, segment]
        return partner


def info_nce(first: Tensor, second: Tensor, partner: Tensor, temperature: float) -> Tensor:
    """Cross entropy of finding one's partner, mean over pairs and both directions.

    Args:
        first: ``[B, K, D]``, of length 1.
        second: ``[B, M, D]``, of length 1; all of an image's are candidates.
        partner: ``[B, K]`` int64, index into the M, or -1 for none.
        temperature: of the softmax over cosines.

    Returns:
        Scalar; 0 without a pair.
    """
    similarity = first @ second.transpose(1, 2) / temperature
    image, row = (partner >= 0).nonzero(as_tuple=True)
    pairs = (image, row, partner[image, row])
    there = similarity.log_softmax(dim=2)[pairs]
    back = similarity.log_softmax(dim=1)[pairs]
    return -(there + back).sum() / (2 * max(len(row), 1))


def _as_one_image(first: Tensor, second: Tensor, partner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The slots of a batch as those of a single image."""
    offset = torch.arange(len(partner), device=partner.device).unsqueeze(1) * second.shape[1]
    partner = torch.where(partner >= 0, partner + offset, partner)
    return first.flatten(0, 1)[None], second.flatten(0, 1)[None], partner.flatten()[None]


def _projection(slot_dim: int, dim: int) -> nn.Module | None:
    """SimCLR's: two layers; None for ``dim`` 0."""
    if dim == 0:
        return None
    return nn.Sequential(
        nn.Linear(slot_dim, slot_dim), nn.ReLU(inplace=True), nn.Linear(slot_dim, dim)
    )
