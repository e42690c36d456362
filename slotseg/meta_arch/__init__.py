"""Whole models, in Detectron2's own META_ARCH_REGISTRY."""

from slotseg.meta_arch.huggingface import HFEoMT, HFMask2Former
from slotseg.meta_arch.pretraining import LatentAutoencoder, MaskedAutoencoder
from slotseg.meta_arch.slotseg import SlotSeg
from slotseg.meta_arch.stock import StockPanopticDeepLab, StockPanopticFPN

__all__ = [
    "HFEoMT",
    "HFMask2Former",
    "LatentAutoencoder",
    "MaskedAutoencoder",
    "SlotSeg",
    "StockPanopticDeepLab",
    "StockPanopticFPN",
]
