"""Scenes in the trees of the three panoptic releases of KITTI.

Their classes are those of Cityscapes. Pictures are wide, as KITTI's rectified ones are.
"""

from __future__ import annotations

import numpy as np

from slotseg.data.datasets.kitti import FOLDERS
from slotseg.data.synthetic.street_trees.tree import StreetTree, encode_png
from slotseg.data.synthetic.streets import StreetImage
from slotseg.data.synthetic.streets.labels import ID, TRAIN_IDS

#: Half the width of KITTI's pictures and nearly half their height, with the same aspect.
SIZE = (184, 620)
FRAMES_PER_SEQUENCE = 10
_STEP_THINGS = (ID["person"], ID["car"])


class Kitti2015Tree(StreetTree):
    """``<split>/{image_2,semantic,instance}/%06d_10.png`` (Alhaija et al., IJCV 2018).

    An instance picture is uint16: label id * 256 + number of the instance from 1 on, 0 where
    instances are not told apart.
    """

    name = "kitti2015"
    style = "kitti"
    size = SIZE
    stream = 1

    def folders(self, split: str) -> tuple[str, ...]:
        return (FOLDERS[split],)

    def scene_files(self, split: str, index: int) -> tuple[str, ...]:
        return tuple(
            f"{FOLDERS[split]}/{kind}/{index:06d}_10.png"
            for kind in ("image_2", "semantic", "instance")
        )

    def encode(self, split: str, index: int, scene: StreetImage) -> tuple[bytes, ...]:
        number = _number(scene.instance_ids)
        # There is room for 255; what is beyond is a crowd.
        number[number > 255] = 0
        instance = scene.label_ids.astype(np.uint16) * 256 + number.astype(np.uint16)
        return encode_png(scene.image), encode_png(scene.label_ids), encode_png(instance)


class KittiPanopticTree(StreetTree):
    """``<split>/{images,annotations}/*.png`` (Mohan and Valada, EfficientPS, IJCV 2021).

    Annotations are RGB: R + 256 G + 65536 B is the instance id of Cityscapes.
    """

    name = "kitti_panoptic"
    style = "kitti"
    size = SIZE
    stream = 2

    def folders(self, split: str) -> tuple[str, ...]:
        return (FOLDERS[split],)

    def scene_files(self, split: str, index: int) -> tuple[str, ...]:
        return tuple(
            f"{FOLDERS[split]}/{kind}/{index:06d}.png" for kind in ("images", "annotations")
        )

    def encode(self, split: str, index: int, scene: StreetImage) -> tuple[bytes, ...]:
        ids = scene.instance_ids
        rgb = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)
        return encode_png(scene.image), encode_png(rgb)


class KittiStepTree(StreetTree):
    """``images`` and ``panoptic_maps``, ``/<split>/<sequence>/<frame>.png`` (Weber et al., 2021).

    In a map R is the train id (255 void) and 256 G + B the number of the instance, from 1 on; only
    persons and cars have instances, 0 is a crowd of them. The frames of a sequence are scenes
    without a connection; frame numbers begin anew in every sequence.
    """

    name = "kitti_step"
    style = "kitti"
    size = SIZE
    stream = 3

    def folders(self, split: str) -> tuple[str, ...]:
        return (f"images/{split}", f"panoptic_maps/{split}")

    def scene_files(self, split: str, index: int) -> tuple[str, ...]:
        sequence, frame = divmod(index, FRAMES_PER_SEQUENCE)
        return tuple(
            f"{kind}/{split}/{sequence:04d}/{frame:06d}.png" for kind in ("images", "panoptic_maps")
        )

    def encode(self, split: str, index: int, scene: StreetImage) -> tuple[bytes, ...]:
        number = np.where(np.isin(scene.label_ids, _STEP_THINGS), _number(scene.instance_ids), 0)
        rgb = np.stack([TRAIN_IDS[scene.label_ids], number >> 8, number & 255], axis=-1)
        return encode_png(scene.image), encode_png(rgb.astype(np.uint8))


def _number(instance_ids: np.ndarray) -> np.ndarray:
    """Numbers of the instances from 1 on, 0 for everything else."""
    return np.where(instance_ids >= 1000, instance_ids % 1000 + 1, 0)
