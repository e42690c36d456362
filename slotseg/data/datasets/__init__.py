"""The data sets that SlotSeg registers with Detectron2."""

from slotseg.data.datasets.cityscapes import register_cityscapes
from slotseg.data.datasets.clevr import load_scene_dicts, register_clevr
from slotseg.data.datasets.coco_panoptic import load_coco_panoptic, register_coco_panoptic


def register_all() -> None:
    """Register every set of this package; touches no file."""
    register_clevr()
    register_cityscapes()


__all__ = [
    "load_coco_panoptic",
    "load_scene_dicts",
    "register_all",
    "register_coco_panoptic",
]
