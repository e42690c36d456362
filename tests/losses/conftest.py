"""Steps of a training as losses see them, without a model."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from slotseg.decoders import Decoded
from slotseg.losses import Seen, TrainingStep
from slotseg.slots import InitialSlots, SlotState


def _seen(mask_logits: Tensor, slots: Tensor | None, class_logits: Tensor | None) -> Seen:
    batch, count = mask_logits.shape[:2]
    slots = torch.zeros(batch, count, 4) if slots is None else slots
    return Seen(
        images=torch.zeros(batch, 3, 4, 4),
        features={},
        initial=InitialSlots(slots),
        slots=SlotState(slots, torch.full((batch, count, 1, 1), 1 / count)),
        decoded=[Decoded(mask_logits)],
        class_logits=class_logits,
    )


@pytest.fixture
def step_of() -> Callable[..., TrainingStep]:
    """``step_of(mask_logits, slots, class_logits, views={spec: (the same three)}, ...)``; what
    else is given are fields of the step.
    """

    def make(mask_logits, slots=None, class_logits=None, views=None, **fields):
        seen = _seen(mask_logits, slots, class_logits)
        return TrainingStep(
            **{**vars(seen), **fields},
            file_names=tuple(f"image{i}.png" for i in range(len(mask_logits))),
            views={spec: _seen(*view) for spec, view in (views or {}).items()},
        )

    return make
