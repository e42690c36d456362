"""What losses on dense guesses and on seeded slots ask of a training step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from torch import Tensor

from slotseg.config import slots_have_places
from slotseg.errors import ConfigError, DatasetError
from slotseg.losses.coverage import coverage
from slotseg.losses.step import TrainingStep
from slotseg.slots import DenseGuess

# A pixel belongs to a segment that covers this share of it: half would lose things of one pixel.
LEAST_SHARE = 0.25


def is_thing_segment(categories: Tensor, is_thing: Sequence[bool]) -> Tensor:
    """``[B, S]`` bool from contiguous classes ``[B, S]``; False where there is no segment."""
    # Class -1 looks up the last entry.
    return torch.tensor([*is_thing, False], device=categories.device)[categories]


def allowed_by_place(
    segment_maps: Tensor, is_thing: Tensor, places: Tensor, grid: tuple[int, int]
) -> Tensor:
    """Which slots may answer for which segments where some slots start at a place.

    Args:
        segment_maps: ``[B, H, W]`` int64, -1 for void.
        is_thing: ``[B, S]`` bool.
        places: ``[B, K, 2]``, (y, x) in 0..1 of a slot's place, NaN for slots without one.
        grid: (h, w) of the map whose pixels the places are.

    Returns:
        ``[B, K, S]`` bool: for slots with a place the things that cover at least
        :data:`LEAST_SHARE` of its pixel, for the others all that is no thing.
    """
    shares = coverage(segment_maps, grid)
    has_place = ~places.isnan().any(dim=2)
    size = torch.tensor(grid, device=places.device)
    row, column = (places.nan_to_num() * size).long().clamp_max(size - 1).unbind(2)
    pixel = (row * grid[1] + column).unsqueeze(1).expand(-1, shares.shape[1], -1)
    at_place = shares.flatten(2).gather(2, pixel).transpose(1, 2) >= LEAST_SHARE
    is_thing = is_thing.unsqueeze(1)
    return torch.where(has_place.unsqueeze(2), at_place & is_thing, ~is_thing)


def guess_of(step: TrainingStep, node: str) -> DenseGuess:
    """The dense maps of the step's images, of which the truth is known.

    Raises:
        DatasetError: the batch has no segments with classes.
    """
    if step.segment_maps is None or step.segment_categories is None:
        raise DatasetError(
            f"{step.file_names[0]}: has no masks with classes, but LOSSES.{node}.WEIGHT is above "
            "0; train on a panoptic set or set the weight to 0"
        )
    return step.initial.guess


def require_guess(cfg: CfgNode, node: str) -> None:
    """Refuse the loss ``LOSSES.<node>`` on a dense guess that no initialiser makes."""
    if not slots_have_places(cfg):
        raise ConfigError(
            f"LOSSES.{node}.WEIGHT is above 0, but {cfg.MODEL.SLOTS.INITIALIZER.NAME} makes no "
            "dense maps; set MODEL.SLOTS.INITIALIZER.NAME to PeakInitializer or the weight to 0"
        )
