"""What a grouping hands to the decoders."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SlotState:
    """Slots and where they looked.

    Attributes:
        slots: ``[B, K, D]``.
        attention: ``[B, K, H, W]``, the competition of the last iteration: for every pixel of the
            grouped map a softmax over the K slots.
    """

    slots: Tensor
    attention: Tensor
