"""The data sets that SlotSeg registers with Detectron2."""

from slotseg.data.datasets.clevr import load_scene_dicts, register_clevr

__all__ = ["load_scene_dicts", "register_clevr"]
