"""What losses may look at."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from slotseg.decoders import Decoded
from slotseg.losses.views import ViewSpec
from slotseg.ops.lattice import Lattice
from slotseg.slots import InitialSlots, SlotState


@dataclass(frozen=True)
class Prediction:
    """Masks and classes of one set of slots.

    Attributes:
        mask_logits: ``[B, K, h, w]`` float32, of the first decoder.
        class_logits: ``[B, K, C + 1]`` float32, the last "no object"; None without a head.
        lattice: the pixels of the map of masks that the logits are of; None: all.
    """

    mask_logits: Tensor
    class_logits: Tensor | None
    lattice: Lattice | None = None


@dataclass(frozen=True)
class Seen:
    """What the rooms made of a batch of images.

    Attributes:
        images: ``[B, 3, H, W]``, normalised.
        features: the backbone's maps by name.
        initial: where the slots started.
        slots: the grouping's output.
        decoded: one entry for each decoder, in the order of ``MODEL.DECODERS``.
        class_logits: ``[B, K, C + 1]`` float32, the last "no object"; None for models whose
            segments have no classes.
        earlier: in training with auxiliary losses, the prediction from the slots after every
            iteration but the last, in this order; else empty.
    """

    images: Tensor
    features: dict[str, Tensor]
    initial: InitialSlots
    slots: SlotState
    decoded: list[Decoded]
    class_logits: Tensor | None = None
    earlier: tuple[Prediction, ...] = ()

    @property
    def prediction(self) -> Prediction:
        """The masks that are scored, and their classes."""
        first = self.decoded[0]
        return Prediction(first.mask_logits, self.class_logits, first.lattice)


@dataclass(frozen=True)
class TrainingStep(Seen):
    """One forward pass in training: what the rooms made of the batch, and the truth.

    Attributes:
        segment_maps: ``[B, H, W]`` int64, the true segment of every pixel, -1 for void; None when
            the batch carries no masks.
        file_names: of the images, for messages.
        segment_categories: ``[B, S]`` int64, the contiguous class of every segment, -1 beyond the
            segments of an image; None when the batch carries none.
        views: what the rooms made of the other views of the images that losses ask for
            (``loss.views``).
        segment_confidence: ``[B, S]`` float32 in 0..1, how far each segment is to be believed and
            so counts in the losses, for labels that a model made up; None: all fully.
    """

    segment_maps: Tensor | None = None
    file_names: tuple[str, ...] = ()
    segment_categories: Tensor | None = None
    views: dict[ViewSpec, Seen] | None = None
    segment_confidence: Tensor | None = None
