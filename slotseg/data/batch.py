"""What one training step sees."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TrainingBatch:
    """The images of one process at one iteration.

    Attributes:
        labeled: mapped dicts with their truth (or, where nothing is labelled, without).
        unlabeled: mapped dicts of images without truth, as they were drawn, each with the views
            of :mod:`slotseg.data.views`; empty unless ``SEMI.IMS_PER_BATCH`` is above 0.
        pseudo: the student's views of ``unlabeled`` with the truth that a teacher made up, in the
            same form as ``labeled``; empty as long as nobody makes any.
        pseudo_weight: factor of the losses on ``pseudo``.
    """

    labeled: list[dict[str, Any]]
    unlabeled: list[dict[str, Any]] = field(default_factory=list)
    pseudo: list[dict[str, Any]] = field(default_factory=list)
    pseudo_weight: float = 1.0

    @classmethod
    def of(cls, drawn: TrainingBatch | list[dict[str, Any]]) -> TrainingBatch:
        """What a loader yields: a batch, or a plain list of labelled images."""
        return drawn if isinstance(drawn, cls) else cls(drawn)
