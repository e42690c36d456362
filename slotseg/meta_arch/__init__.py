"""Whole models, in Detectron2's own META_ARCH_REGISTRY."""

from slotseg.meta_arch.slotseg import SlotSeg

__all__ = ["SlotSeg"]
