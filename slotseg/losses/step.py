"""What losses may look at."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from slotseg.decoders import Decoded
from slotseg.slots import InitialSlots, SlotState


@dataclass(frozen=True)
class TrainingStep:
    """Inputs and outputs of one forward pass in training.

    Attributes:
        images: ``[B, 3, H, W]``, normalised.
        features: the backbone's maps by name.
        initial: where the slots started.
        slots: the grouping's output.
        decoded: one entry for each decoder, in the order of ``MODEL.DECODERS``.
        segment_maps: ``[B, H, W]`` int64, the true segment of every pixel, -1 for void; None when
            the batch carries no masks.
        file_names: of the images, for messages.
        class_logits: ``[B, K, C + 1]`` float32, the last "no object"; None for models whose
            segments have no classes.
        segment_categories: ``[B, S]`` int64, the contiguous class of every segment, -1 beyond the
            segments of an image; None when the batch carries none.
    """

    images: Tensor
    features: dict[str, Tensor]
    initial: InitialSlots
    slots: SlotState
    decoded: list[Decoded]
    segment_maps: Tensor | None
    file_names: list[str]
    class_logits: Tensor | None = None
    segment_categories: Tensor | None = None
