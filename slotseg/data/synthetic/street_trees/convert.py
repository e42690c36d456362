"""From a generated tree to panoptic files that train, with the converters of the real sets."""

from __future__ import annotations

from slotseg.data.datasets.bdd100k import convert_bdd100k
from slotseg.data.datasets.cityscapes import convert_cityscapes
from slotseg.data.datasets.kitti import (
    convert_kitti2015,
    convert_kitti_panoptic,
    convert_kitti_step,
)


def convert_street_split(tree_name: str, root: str, split: str, workers: int = 1) -> None:
    """Make the panoptic files of one split of the tree ``tree_name`` under ``root``.

    Raises:
        DatasetError: the tree is damaged, or a package that converts it is missing.
    """
    if tree_name == "bdd100k":
        for classes in (40, 19):
            convert_bdd100k(root, split, classes, workers)
        return
    converters = {
        "cityscapes": convert_cityscapes,
        "kitti2015": convert_kitti2015,
        "kitti_panoptic": convert_kitti_panoptic,
        "kitti_step": convert_kitti_step,
    }
    converters[tree_name](root, split, workers)
