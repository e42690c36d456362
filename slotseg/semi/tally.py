"""What pseudo labels consist of, over the last images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from slotseg.semi.filtering import TrustedSegments

# Images after which one counts for 1/e of a new one.
MEMORY = 500


class LabelTally:
    """Running counts of pixels by class, in which old images are slowly forgotten.

    Args:
        num_classes: classes told apart; for models without any, 1 for all segments.

    Attributes:
        predicted, kept: ``[C]`` float64, pixels that the teacher gave to each class, before and
            after the filters.
        labeled: ``[C]`` float64, pixels of each class in labelled images.
        pixels, uncertain: all pixels of the teacher's views, and those it was too unsure of.
        images: unlabelled images so far, none forgotten.
    """

    _COUNTS = ("predicted", "kept", "labeled")
    _NUMBERS = ("pixels", "uncertain", "images")

    def __init__(self, num_classes: int) -> None:
        for name in self._COUNTS:
            setattr(self, name, torch.zeros(num_classes, dtype=torch.float64))
        self.pixels = self.uncertain = 0.0
        self.images = 0

    def add(
        self, found: TrustedSegments, picture: tuple[int, int] | None = None
    ) -> tuple[int, int, int]:
        """Count one image of the teacher.

        Args:
            found: before and after the filters.
            picture: (height, width) of the part of the view, at its top left, that is no padding;
                None: all of it.

        Returns:
            Its pixels, those that are kept and those that were too uncertain.
        """
        window = (...,) if picture is None else (slice(picture[0]), slice(picture[1]))
        predicted = found.predicted[window]
        kept = predicted.masked_fill(found.segment_map[window] < 0, -1)
        uncertain = 0 if found.uncertain is None else int(found.uncertain[window].sum())
        self._forget("predicted", "kept", "pixels", "uncertain")
        of_classes = self._per_class(kept, found.categories)
        self.predicted += self._per_class(predicted, found.categories)
        self.kept += of_classes
        self.pixels += predicted.numel()
        self.uncertain += uncertain
        self.images += 1
        return predicted.numel(), int(of_classes.sum()), uncertain

    def add_labeled(self, samples: Iterable[Mapping[str, Any]]) -> None:
        """Count the truth of labelled images, as the mapper gives it; those without classes not."""
        for sample in samples:
            if "segment_category" in sample and "segment_map" in sample:
                self._forget("labeled")
                self.labeled += self._per_class(sample["segment_map"], sample["segment_category"])

    @property
    def kept_share(self) -> float:
        """Of all pixels."""
        return float(self.kept.sum()) / max(self.pixels, 1.0)

    @property
    def uncertain_share(self) -> float:
        """Of all pixels."""
        return self.uncertain / max(self.pixels, 1.0)

    def kept_by_class(self) -> dict[int, float]:
        """For every class that the teacher predicts, the share of those pixels that is kept."""
        seen = self.predicted >= 1.0
        shares = self.kept / self.predicted.clamp_min(1.0)
        return {c: float(shares[c]) for c in seen.nonzero()[:, 0].tolist()}

    def state_dict(self) -> dict[str, Any]:
        """All counts."""
        counts = {name: getattr(self, name).clone() for name in self._COUNTS}
        return counts | {name: getattr(self, name) for name in self._NUMBERS}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The counterpart of :meth:`state_dict`; counts of other classes are left out."""
        if all(len(state[name]) == len(self.kept) for name in self._COUNTS):
            for name in self._COUNTS:
                setattr(self, name, state[name].to(torch.float64).cpu().clone())
            for name in self._NUMBERS:
                setattr(self, name, state[name])

    def _forget(self, *names: str) -> None:
        for name in names:
            setattr(self, name, getattr(self, name) * (1.0 - 1.0 / MEMORY))

    def _per_class(self, segment_map: Tensor, categories: Tensor) -> Tensor:
        """Pixels of each class, ``[C]`` float64 on the CPU."""
        areas = torch.bincount((segment_map + 1).flatten(), minlength=len(categories) + 1)[1:]
        return torch.bincount(
            categories.cpu(), weights=areas.cpu().double(), minlength=len(self.kept)
        )[: len(self.kept)]
