"""The panoptic truth of an image, as the mapper gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from slotseg.errors import DatasetError

_KEYS = ("segment_map", "segment_category", "segment_is_object", "segment_is_crowd")


@dataclass(frozen=True)
class PanopticTruth:
    """Segments of an image of height h and width w, S of them listed.

    Attributes:
        segment_map: ``[h, w]`` int64, the number of each pixel's segment, -1 for void. Listed
            segments may be absent: augmentation can cut a segment away.
        category: ``[S]`` int64, contiguous classes.
        is_object: ``[S]`` bool, things that are not crowd.
        is_crowd: ``[S]`` bool, regions of several objects that nobody told apart.
    """

    segment_map: Tensor
    category: Tensor
    is_object: Tensor
    is_crowd: Tensor

    @classmethod
    def of(cls, sample: Mapping[str, Any], device: torch.device) -> PanopticTruth:
        """The truth in a mapper's dict, moved to ``device``.

        Raises:
            DatasetError: the sample has no panoptic truth.
        """
        missing = [key for key in _KEYS if key not in sample]
        if missing:
            raise DatasetError(
                f"{sample.get('file_name', 'an image')}: has no {missing[0]}, so a panoptic model "
                "cannot be trained on it; name sets with panoptic truth in DATASETS.TRAIN"
            )
        return cls(*(sample[key].to(device, non_blocking=True) for key in _KEYS))

    def paint(self, value_of_segment: Tensor, void: int) -> Tensor:
        """``[h, w]``: every pixel gets the value ``[S]`` of its segment, void pixels ``void``."""
        return paint(self.segment_map, value_of_segment, void)

    def areas(self) -> Tensor:
        """``[S]`` int64, pixels of each segment in the map."""
        return torch.bincount((self.segment_map + 1).flatten(), minlength=len(self.category) + 1)[
            1:
        ]


def paint(segment_map: Tensor, value_of_segment: Tensor, void: int) -> Tensor:
    """The values ``[S]`` of the segments at their pixels, ``void`` where there is none.

    Args:
        segment_map: int64 of any shape, the number of each pixel's segment, -1 for void.
        value_of_segment: ``[S]``, of any type.
        void: the value of void pixels.

    Returns:
        The shape of the map, the type of the values.
    """
    # Number -1 looks up the last entry.
    return torch.cat([value_of_segment, value_of_segment.new_tensor([void])])[segment_map]
