"""Whole models, in Detectron2's own META_ARCH_REGISTRY."""

from slotseg.meta_arch.slotseg import SlotSeg
from slotseg.meta_arch.stock import StockPanopticFPN

__all__ = ["SlotSeg", "StockPanopticFPN"]
