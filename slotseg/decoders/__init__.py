"""Slots to masks, features and images."""

from slotseg.decoders.build import DECODER_REGISTRY, build_decoders
from slotseg.decoders.decoded import Decoded, Regression
from slotseg.decoders.diffusion import LatentDiffusionDecoder
from slotseg.decoders.drawing import drawing
from slotseg.decoders.feature_mlp import FeatureMLPDecoder
from slotseg.decoders.iterations import decode_iterations
from slotseg.decoders.mask_product import MaskProductDecoder
from slotseg.decoders.spatial_broadcast import SpatialBroadcastDecoder

__all__ = [
    "DECODER_REGISTRY",
    "Decoded",
    "FeatureMLPDecoder",
    "LatentDiffusionDecoder",
    "MaskProductDecoder",
    "Regression",
    "SpatialBroadcastDecoder",
    "build_decoders",
    "decode_iterations",
    "drawing",
]
