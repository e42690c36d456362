"""The data sets that SlotSeg registers with Detectron2."""

from slotseg.data.datasets.clevr import register_clevr

__all__ = ["register_clevr"]
