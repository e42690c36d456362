"""Masks of the slots after earlier iterations."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from slotseg.decoders.decoded import Decoded
from slotseg.slots.state import SlotState

_MIXING = ("makes_reconstruction", "makes_features", "makes_noise")


def decode_iterations(
    decoder: nn.Module, slots: SlotState, features: dict[str, Tensor], images: Tensor
) -> tuple[Decoded, tuple[Tensor, ...]]:
    """Decode the slots, and the masks of those after every earlier iteration.

    A decoder makes each slot's mask from that slot alone, so the slots of all iterations can go
    through it side by side: what it does with pixels is done once. One that also mixes its slots
    to an image or to features is called once more instead, because slots of several iterations
    must not mix.

    Returns:
        What the decoder makes of the last slots, and mask logits ``[B, K, h, w]`` for each entry
        of ``slots.earlier``.
    """
    count = len(slots.earlier)
    if count == 0:
        return decoder(slots, features, images), ()
    if any(getattr(decoder, attribute, False) for attribute in _MIXING):
        together = _side_by_side(slots, slots.earlier)
        masks = decoder(together, features, images).mask_logits.chunk(count, dim=1)
        return decoder(slots, features, images), masks
    together = _side_by_side(slots, (slots.slots, *slots.earlier))
    decoded = decoder(together, features, images)
    last, *earlier = decoded.mask_logits.chunk(count + 1, dim=1)
    return replace(decoded, mask_logits=last), tuple(earlier)


def _side_by_side(slots: SlotState, iterations: tuple[Tensor, ...]) -> SlotState:
    places = None if slots.places is None else slots.places.repeat(1, len(iterations), 1)
    return replace(slots, slots=torch.cat(iterations, dim=1), places=places)
