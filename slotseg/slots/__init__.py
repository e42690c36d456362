"""Feature maps to slots: tokens, initialisers and groupings."""

from slotseg.slots.build import (
    SLOT_GROUPING_REGISTRY,
    SLOT_INITIALIZER_REGISTRY,
    build_slot_grouping,
    build_slot_initializer,
)
from slotseg.slots.initializers import (
    GaussianInitializer,
    LearnedInitializer,
    OrthogonalInitializer,
)
from slotseg.slots.nested import NestedSlotAttention
from slotseg.slots.peaks import PeakInitializer
from slotseg.slots.position import FourierPosition, SoftPosition, build_position
from slotseg.slots.slot_attention import SlotAttention
from slotseg.slots.spectral import SpectralInitializer
from slotseg.slots.state import DenseGuess, InitialSlots, ParentSlots, SlotState
from slotseg.slots.token_mixer import MambaTokenMixer
from slotseg.slots.tokens import PixelTokens, Tokens
from slotseg.slots.update import GRUUpdate, MambaUpdate

__all__ = [
    "SLOT_GROUPING_REGISTRY",
    "SLOT_INITIALIZER_REGISTRY",
    "DenseGuess",
    "FourierPosition",
    "GRUUpdate",
    "GaussianInitializer",
    "InitialSlots",
    "LearnedInitializer",
    "MambaTokenMixer",
    "MambaUpdate",
    "NestedSlotAttention",
    "OrthogonalInitializer",
    "ParentSlots",
    "PeakInitializer",
    "PixelTokens",
    "SlotAttention",
    "SlotState",
    "SoftPosition",
    "SpectralInitializer",
    "Tokens",
    "build_position",
    "build_slot_grouping",
    "build_slot_initializer",
]
