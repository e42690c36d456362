"""The data sets that SlotSeg registers with Detectron2."""

from slotseg.data.datasets.bdd100k import register_bdd100k
from slotseg.data.datasets.cityscapes import register_cityscapes
from slotseg.data.datasets.clevr import load_scene_dicts, register_clevr
from slotseg.data.datasets.clevr_panoptic import register_clevr_panoptic
from slotseg.data.datasets.coco_panoptic import load_coco_panoptic, register_coco_panoptic
from slotseg.data.datasets.kitti import register_kitti
from slotseg.data.datasets.native import native_faults


def register_all() -> None:
    """Register every set of this package; touches no file."""
    register_clevr()
    register_clevr_panoptic()
    register_cityscapes()
    register_kitti()
    register_bdd100k()


__all__ = [
    "load_coco_panoptic",
    "load_scene_dicts",
    "native_faults",
    "register_all",
    "register_coco_panoptic",
]
