"""Slots to images by latent diffusion; the networks are those of the `diffusers` library."""

from slotseg.decoders.diffusion.codec import ImageCodec, build_codec
from slotseg.decoders.diffusion.decoder import LatentDiffusionDecoder
from slotseg.decoders.diffusion.saved_codec import load_codec

__all__ = ["ImageCodec", "LatentDiffusionDecoder", "build_codec", "load_codec"]
