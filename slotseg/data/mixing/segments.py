"""The segments of several images as those of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from slotseg.errors import DatasetError

# What mappers say of each segment beside the map; the last three not all of them.
_IS_OBJECT = "segment_is_object"
_CATEGORY, _IS_CROWD = "segment_category", "segment_is_crowd"
_CONFIDENCE = "segment_confidence"


@dataclass(frozen=True)
class Remains:
    """When the rest of a segment is too little to be called one.

    Attributes:
        min_area: pixels; fewer are too few, if they are also ...
        min_share: ... less than this share of what the segment was, 0 to 1.
    """

    min_area: float
    min_share: float

    def enough(self, visible: Tensor, former: Tensor) -> Tensor:
        """``[S]`` bool from pixels that are left and pixels that there were, ``[S]`` each."""
        return (visible > 0) & ((visible >= self.min_area) | (visible >= self.min_share * former))


@dataclass(frozen=True)
class SegmentTable:
    """What is known of S segments, of one image or of several one after the other.

    Attributes:
        is_object: ``[S]`` bool, see :class:`slotseg.data.panoptic_mapper.PanopticMapper`.
        category: ``[S]`` int64; None for segments without classes.
        is_crowd: ``[S]`` bool; None where the set knows of no crowds.
        confidence: ``[S]`` float32 in 0..1; None where all are certain.
    """

    is_object: Tensor
    category: Tensor | None = None
    is_crowd: Tensor | None = None
    confidence: Tensor | None = None

    @classmethod
    def of(cls, dicts: Sequence[Mapping[str, Any]], device: torch.device) -> SegmentTable:
        """The segments of mapped dicts, in their order.

        Args:
            dicts: at least one.
            device: where to put them.

        Raises:
            DatasetError: only some of the images have classes.
        """
        is_object = _joined(dicts, _IS_OBJECT, device)
        return cls(
            is_object=is_object,
            category=_joined(dicts, _CATEGORY, device) if _all_have(dicts, _CATEGORY) else None,
            is_crowd=_joined(dicts, _IS_CROWD, device) if _all_have(dicts, _IS_CROWD) else None,
            confidence=_confidences(dicts, device),
        )

    def joined(self) -> Tensor:
        """``[S]`` int64: for each the first segment that it is one with.

        Things are one with themselves alone. Of a class of stuff a panoptic image has one segment,
        and of a class of crowds one region; without classes all that is no object is background.
        """
        number = torch.arange(len(self.is_object), device=self.is_object.device)
        category = torch.zeros_like(number) if self.category is None else self.category
        crowd = torch.zeros_like(number) if self.is_crowd is None else self.is_crowd.long()
        # Below zero: no number of a segment.
        key = torch.where(self.is_object, number, -1 - (2 * category + crowd))
        # Of several highest entries argmax names the first.
        return (key.unsqueeze(1) == key).int().argmax(dim=1) if len(key) else number

    def merge(self, visible: Tensor, former: Tensor, remains: Remains) -> tuple[Tensor, dict]:
        """One entry for all that :meth:`joined` says is one, without what is left too little of.

        Crowds stay however little is left of them, and so does the background of images without
        classes, whose place in the list (the first) says what it is.

        Args:
            visible: ``[S]`` int64, pixels in the new image.
            former: ``[S]`` float64, pixels that the whole segment would have at the same scale.
            remains: what is too little.

        Returns:
            ``[S]`` int64, the new number of each segment, -1 for those that become void; and the
            entries of a mapped dict for the new segments: classes and flags as they were, the
            confidence as the mean over pixels.
        """
        joined = self.joined()
        count = len(joined)
        # A product with zeros and ones adds in the same order on every device.
        members = (joined == torch.arange(count, device=joined.device).unsqueeze(1)).double()
        pixels = members @ visible.double()
        keep = remains.enough(pixels, members @ former)
        if self.is_crowd is not None:
            keep |= self.is_crowd & (pixels > 0)
        if self.category is None and count:
            keep[0] |= ~self.is_object[0]
        number = (keep.long().cumsum(0) - 1).masked_fill(~keep, -1)
        entries = {_IS_OBJECT: self.is_object[keep]}
        if self.category is not None:
            entries[_CATEGORY] = self.category[keep]
        if self.is_crowd is not None:
            entries[_IS_CROWD] = self.is_crowd[keep]
        if self.confidence is not None:
            # Where no pixel is left: the mean over the segments.
            weights = members * torch.where(pixels.unsqueeze(1) > 0, visible.double(), 1.0)
            mean = weights @ self.confidence.double() / weights.sum(dim=1).clamp_min(1.0)
            entries[_CONFIDENCE] = mean[keep].float()
        return number[joined], entries


def _joined(dicts: Sequence[Mapping[str, Any]], key: str, device: torch.device) -> Tensor:
    return torch.cat([sample[key].to(device) for sample in dicts])


def _confidences(dicts: Sequence[Mapping[str, Any]], device: torch.device) -> Tensor | None:
    """Of all segments, 1 where an image says nothing; None where none does."""
    if not any(_CONFIDENCE in sample for sample in dicts):
        return None
    return torch.cat(
        [
            sample[_CONFIDENCE].to(device)
            if _CONFIDENCE in sample
            else torch.ones(len(sample[_IS_OBJECT]), device=device)
            for sample in dicts
        ]
    )


def _all_have(dicts: Sequence[Mapping[str, Any]], key: str) -> bool:
    having = [key in sample for sample in dicts]
    if any(having) and not all(having):
        name = dicts[having.index(False)].get("file_name", "an image")
        raise DatasetError(
            f"{name}: has no {key} while others of its batch have, so they cannot be mixed; do not "
            "mix sets with and without classes in DATASETS.TRAIN"
        )
    return all(having)
