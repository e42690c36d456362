"""Images of a batch mixed with each other, with all that is known of their segments."""

from slotseg.data.mixing.batches import BatchMixing, build_mixing
from slotseg.data.mixing.compose import Patch, Source, compose
from slotseg.data.mixing.mixes import CutMix, Mix, Mosaic
from slotseg.data.mixing.schedule import Schedule
from slotseg.data.mixing.segments import Remains

__all__ = [
    "BatchMixing",
    "CutMix",
    "Mix",
    "Mosaic",
    "Patch",
    "Remains",
    "Schedule",
    "Source",
    "build_mixing",
    "compose",
]
