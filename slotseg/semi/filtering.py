"""Which part of a prediction is good enough to be a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from slotseg.errors import ConfigError


@dataclass(frozen=True)
class TrustedSegments:
    """The segments of one image that may teach.

    Attributes:
        segment_map: ``[h, w]`` int64, the number of each pixel's segment, -1 where nothing is
            trusted.
        segments: their entries of ``segments_info``, in the order of their numbers.
        confidence: one a segment, in 0..1.
        predicted: ``[h, w]`` int64, as ``segment_map`` before any filter, numbering all segments.
        categories: ``[S']`` int64 on the CPU, the classes of all these; 0 without classes.
        uncertain: ``[h, w]`` bool, pixels that were left out because the teacher is unsure of
            them; None without a measure of that.
    """

    segment_map: Tensor
    segments: list[dict[str, Any]]
    confidence: list[float]
    predicted: Tensor
    categories: Tensor
    uncertain: Tensor | None


@dataclass(frozen=True)
class LabelFilter:
    """The thresholds of ``PSEUDO_LABELS``.

    Attributes:
        min_confidence_things: least confidence of a thing, or of a segment without a class.
        min_confidence_stuff: of stuff.
        max_uncertainty: most uncertain pixel that is kept.
        min_area: least number of kept pixels of a segment.
        min_kept_share: least share of its pixels that a segment keeps.

    Raises:
        ConfigError: one of them is out of range.
    """

    min_confidence_things: float = 0.5
    min_confidence_stuff: float = 0.5
    max_uncertainty: float = 0.1
    min_area: int = 1
    min_kept_share: float = 0.0

    def __post_init__(self) -> None:
        shares = ("min_confidence_things", "min_confidence_stuff", "max_uncertainty")
        for name in (*shares, "min_kept_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(
                    f"PSEUDO_LABELS.{name.upper()}: {getattr(self, name)} should be between 0 and 1"
                )
        if self.min_area < 0:
            raise ConfigError(f"PSEUDO_LABELS.MIN_AREA: {self.min_area} should be at least 0")

    def __call__(
        self, ids: Tensor, segments_info: Sequence[dict[str, Any]], uncertainty: Tensor | None
    ) -> TrustedSegments:
        """Keep sure pixels of confident segments.

        Args:
            ids: ``[h, w]``, whole numbers, the segment ids of a prediction.
            segments_info: its segments, see :func:`confidence_of`; other ids are void.
            uncertainty: ``[h, w]`` in 0..1, of every pixel; None: all are sure.
        """
        predicted = number_pixels(ids, [segment["id"] for segment in segments_info])
        # Entropies of uniform classes are rounded to a little above 1.
        uncertain = None if uncertainty is None else uncertainty.clamp_max(1) > self.max_uncertainty
        sure = predicted if uncertain is None else predicted.masked_fill(uncertain, -1)
        areas, kept_areas = (count(x, len(segments_info)).tolist() for x in (predicted, sure))
        confidence = [confidence_of(segment) for segment in segments_info]
        trusted = [
            number
            for number, segment in enumerate(segments_info)
            if confidence[number] >= self._least_confidence(segment)
            and kept_areas[number] >= max(self.min_area, 1)
            and kept_areas[number] >= self.min_kept_share * areas[number]
        ]
        return TrustedSegments(
            segment_map=renumber(sure, trusted, len(segments_info)),
            segments=[segments_info[number] for number in trusted],
            confidence=[confidence[number] for number in trusted],
            predicted=predicted,
            categories=torch.tensor(
                [segment.get("category_id", 0) for segment in segments_info], dtype=torch.int64
            ),
            uncertain=uncertain,
        )

    def _least_confidence(self, segment: dict[str, Any]) -> float:
        is_thing = segment.get("isthing", True)
        return self.min_confidence_things if is_thing else self.min_confidence_stuff


def confidence_of(segment: dict[str, Any]) -> float:
    """How sure a model is of an entry of its ``segments_info``, in 0..1.

    ``confidence`` where the model tells it, else the ``score`` of its class, else 1.
    """
    return min(max(float(segment.get("confidence", segment.get("score", 1.0))), 0.0), 1.0)


def number_pixels(ids: Tensor, listed: Sequence[int]) -> Tensor:
    """The place of every pixel's id in a list without repetitions, int64; -1 for others."""
    if not len(listed):
        return torch.full_like(ids, -1, dtype=torch.int64)
    known = torch.as_tensor(listed, dtype=torch.int64, device=ids.device)
    highest = int(known.max())
    number_of_id = known.new_full((highest + 2,), -1)
    number_of_id[known] = torch.arange(len(known), device=ids.device)
    ids = ids.long()
    return number_of_id[torch.where((ids < 0) | (ids > highest), highest + 1, ids)]


def count(segment_map: Tensor, num_segments: int) -> Tensor:
    """Pixels of every segment, ``[num_segments]`` int64; -1 is none."""
    return torch.bincount((segment_map + 1).flatten(), minlength=num_segments + 1)[1:]


def renumber(segment_map: Tensor, kept: Sequence[int], num_segments: int) -> Tensor:
    """The map with the segments ``kept`` as 0, 1, ... in this order, all others as -1."""
    number = segment_map.new_full((num_segments + 1,), -1)
    number[list(kept)] = torch.arange(len(kept), device=segment_map.device)
    # Number -1 looks up the last entry.
    return number[segment_map]
