"""Street scenes written into the trees in which the real data sets are published."""

from __future__ import annotations

from slotseg.data.synthetic.street_trees.bdd100k import Bdd100kTree
from slotseg.data.synthetic.street_trees.cityscapes import CityscapesTree
from slotseg.data.synthetic.street_trees.kitti import (
    Kitti2015Tree,
    KittiPanopticTree,
    KittiStepTree,
)
from slotseg.data.synthetic.street_trees.tree import SPLITS, StreetTree

#: Trees by the name of their folder below ``streets_generated``.
TREES: dict[str, StreetTree] = {
    tree.name: tree
    for tree in (
        CityscapesTree(),
        Kitti2015Tree(),
        KittiPanopticTree(),
        KittiStepTree(),
        Bdd100kTree(),
    )
}

__all__ = ["SPLITS", "TREES", "StreetTree"]
