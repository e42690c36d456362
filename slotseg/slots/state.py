"""What passes from the initialiser to the grouping, and from there to the decoders."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class DenseGuess:
    """What an initialiser thinks of every pixel before there are slots.

    Attributes:
        objectness: ``[B, h, w]`` float32, logits of being the centre of a thing.
        class_logits: ``[B, C, h, w]`` float32.
    """

    objectness: Tensor
    class_logits: Tensor


@dataclass(frozen=True)
class InitialSlots:
    """Where the slots start.

    Attributes:
        slots: ``[B, K, D]``.
        seeded: ``[B]`` int64, how many of the first slots of every image come from that image; the
            others are the same for all. None for initialisers that do not look at images.
        places: ``[B, K, 2]`` float32, the (y, x) in 0..1 of the image at which a slot starts, NaN
            for slots that start nowhere. None where all of them do.
        guess: of initialisers that make one, else None.
    """

    slots: Tensor
    seeded: Tensor | None = None
    places: Tensor | None = None
    guess: DenseGuess | None = None


@dataclass(frozen=True)
class ParentSlots:
    """The upper level of a two-level grouping.

    Attributes:
        slots: ``[B, M, D]``.
        attention: ``[B, M, H, W]``, the parents' own competition in the last iteration: a softmax
            over M.
        of: ``[K]`` int64 in 0..M-1, the parent of every slot of the lower level.
    """

    slots: Tensor
    attention: Tensor
    of: Tensor


@dataclass(frozen=True)
class SlotState:
    """Slots and where they looked.

    Attributes:
        slots: ``[B, K, D]``; of a two-level grouping the lower level.
        attention: ``[B, K, H, W]``, the competition of the last iteration: for every pixel of the
            grouped map it sums to 1 over the K slots.
        parents: the upper level of a two-level grouping, else None.
        earlier: ``[B, K, D]``, the slots after every iteration but the last.
        places: ``[B, K, 2]``, where the slots started, as :class:`InitialSlots` has it.
    """

    slots: Tensor
    attention: Tensor
    parents: ParentSlots | None = None
    earlier: tuple[Tensor, ...] = ()
    places: Tensor | None = None
