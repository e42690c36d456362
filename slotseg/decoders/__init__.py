"""Slots to masks and reconstructions."""

from slotseg.decoders.build import DECODER_REGISTRY, build_decoders
from slotseg.decoders.decoded import Decoded
from slotseg.decoders.mask_product import MaskProductDecoder
from slotseg.decoders.spatial_broadcast import SpatialBroadcastDecoder

__all__ = [
    "DECODER_REGISTRY",
    "Decoded",
    "MaskProductDecoder",
    "SpatialBroadcastDecoder",
    "build_decoders",
]
