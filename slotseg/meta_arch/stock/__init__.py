"""Detectron2's own panoptic models on the same rails as SlotSeg: same input, same output."""

from slotseg.meta_arch.stock.panoptic_deeplab import StockPanopticDeepLab
from slotseg.meta_arch.stock.panoptic_fpn import StockPanopticFPN

__all__ = ["StockPanopticDeepLab", "StockPanopticFPN"]
