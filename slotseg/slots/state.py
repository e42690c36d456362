"""What passes from the initialiser to the grouping, and from there to the decoders."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class InitialSlots:
    """Where the slots start.

    Attributes:
        slots: ``[B, K, D]``.
        seeded: ``[B]`` int64, how many of the first slots of every image come from that image; the
            others are the same for all. None for initialisers that do not look at images.
    """

    slots: Tensor
    seeded: Tensor | None = None


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
    """

    slots: Tensor
    attention: Tensor
    parents: ParentSlots | None = None
    earlier: tuple[Tensor, ...] = ()
