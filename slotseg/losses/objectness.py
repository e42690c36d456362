"""Where things are, for slots that start there."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from slotseg.classes import training_classes
from slotseg.losses.base import WeightedLoss
from slotseg.losses.classes import check_categories
from slotseg.losses.coverage import coverage
from slotseg.losses.step import TrainingStep
from slotseg.losses.things import LEAST_SHARE, guess_of, is_thing_segment, require_guess
from slotseg.ops.peaks import segment_centers

# Deviation of the bump around a centre: this part of the object's side, within these pixels.
_PART_OF_SIDE = 1 / 6
_SMALLEST, _LARGEST = 0.5, 4.0


class ObjectnessLoss(WeightedLoss):
    """Focal loss of a map of object centres (Law and Deng 2018, equation 1; Zhou et al. 2019).

    The truth of a pixel is a Gaussian bump around the centre of every thing, the highest where
    bumps overlap: 1 at the centre itself. A centre is the pixel of the thing that is nearest to
    its centre of mass, so that it lies on the thing where this is hidden in the middle, or hollow
    as a bicycle. With ``p`` the prediction and ``g`` the truth, a centre pays ``-(1 - p)^2 log p``
    and any other pixel ``-(1 - g)^4 p^2 log(1 - p)``, of which void pays nothing; the sum is
    divided by the number of centres in the batch. Where segments come with a confidence, what a
    centre pays is multiplied by its segment's.

    Args:
        weight: factor of the loss.
        is_thing: of each class.
    """

    node = "OBJECTNESS"

    @configurable
    def __init__(self, *, weight: float, is_thing: tuple[bool, ...]) -> None:
        super().__init__(weight=weight)
        self.is_thing = is_thing

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read ``LOSSES.OBJECTNESS``."""
        require_guess(cfg, cls.node)
        return {**super().from_config(cfg), "is_thing": training_classes(cfg).is_thing}

    def forward(self, step: TrainingStep) -> dict[str, Tensor]:
        """``{"loss_objectness": scalar}``."""
        logits = guess_of(step, self.node).objectness
        check_categories(step.segment_categories, len(self.is_thing), step.file_names)
        shares = coverage(step.segment_maps, logits.shape[-2:])
        is_thing = is_thing_segment(step.segment_categories, self.is_thing)
        truth, centers, counts = center_map(
            shares, is_thing[:, : shares.shape[1]], step.segment_confidence
        )
        probability = logits.float().sigmoid().clamp(1e-4, 1.0 - 1e-4)
        at_center = -((1.0 - probability) ** 2) * probability.log()
        elsewhere = -((1.0 - truth) ** 4) * probability**2 * (1.0 - probability).log()
        elsewhere = elsewhere * (shares.sum(dim=1) > 0.5)
        if step.segment_confidence is not None:
            at_center = at_center * counts
        total = torch.where(centers, at_center, elsewhere).sum()
        return self.weighted(total / centers.sum().clamp_min(1))


def center_map(
    shares: Tensor, is_thing: Tensor, confidence: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The truth of :class:`ObjectnessLoss`.

    Args:
        shares: ``[B, S, h, w]``, the share of each pixel that each segment covers.
        is_thing: ``[B, S]`` bool.
        confidence: ``[B, S']`` float32 in 0..1, with S' >= S; None: all 1.

    Returns:
        The bumps, ``[B, h, w]`` float32 in 0..1, the centres themselves, ``[B, h, w]`` bool, and
        what each counts, ``[B, h, w]`` float32: the confidence of its thing, the highest of several
        at one pixel, and 0 elsewhere.
    """
    batch, _, height, width = shares.shape
    index, exists = segment_centers(shares, LEAST_SHARE)
    exists = exists & is_thing
    row = torch.div(index, width, rounding_mode="floor")[..., None, None]
    column = (index % width)[..., None, None]
    rows = torch.arange(height, device=shares.device).view(-1, 1)
    columns = torch.arange(width, device=shares.device)
    side = shares.sum(dim=(2, 3)).sqrt()
    deviation = (side * _PART_OF_SIDE).clamp(_SMALLEST, _LARGEST)[..., None, None]
    squared = (rows - row) ** 2 + (columns - column) ** 2
    bumps = torch.exp(-squared / (2.0 * deviation**2)) * exists[..., None, None]
    centers = torch.zeros(batch, height * width, dtype=torch.bool, device=shares.device)
    image, segment = exists.nonzero(as_tuple=True)
    centers[image, index[image, segment]] = True
    believed = exists.float() if confidence is None else confidence[:, : exists.shape[1]] * exists
    counts = torch.zeros(batch, height * width, device=shares.device)
    counts = counts.scatter_reduce(1, index, believed, "amax")
    size = (batch, height, width)
    return bumps.amax(dim=1), centers.view(size), counts.view(size)
