"""The labels of Cityscapes (Cordts et al., CVPR 2016), with which every street scene is described.

Other releases number the same classes in their own way; their writers translate from these.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: ``train_id`` of a label that is not evaluated.
IGNORED = 255


@dataclass(frozen=True)
class Label:
    """One label.

    Attributes:
        id: the "raw" number, in ``labelIds`` files and, times 1000, in ``instanceIds`` files.
        name: as Cityscapes spells it.
        train_id: 0..18 for the 19 evaluated classes, otherwise :data:`IGNORED`.
        has_instances: instances of it are told apart.
        color: (R, G, B) of the ``color`` files.
    """

    id: int
    name: str
    train_id: int
    has_instances: bool
    color: tuple[int, int, int]


LABELS: tuple[Label, ...] = (
    Label(0, "unlabeled", IGNORED, False, (0, 0, 0)),
    Label(1, "ego vehicle", IGNORED, False, (0, 0, 0)),
    Label(2, "rectification border", IGNORED, False, (0, 0, 0)),
    Label(3, "out of roi", IGNORED, False, (0, 0, 0)),
    Label(4, "static", IGNORED, False, (0, 0, 0)),
    Label(5, "dynamic", IGNORED, False, (111, 74, 0)),
    Label(6, "ground", IGNORED, False, (81, 0, 81)),
    Label(7, "road", 0, False, (128, 64, 128)),
    Label(8, "sidewalk", 1, False, (244, 35, 232)),
    Label(9, "parking", IGNORED, False, (250, 170, 160)),
    Label(10, "rail track", IGNORED, False, (230, 150, 140)),
    Label(11, "building", 2, False, (70, 70, 70)),
    Label(12, "wall", 3, False, (102, 102, 156)),
    Label(13, "fence", 4, False, (190, 153, 153)),
    Label(14, "guard rail", IGNORED, False, (180, 165, 180)),
    Label(15, "bridge", IGNORED, False, (150, 100, 100)),
    Label(16, "tunnel", IGNORED, False, (150, 120, 90)),
    Label(17, "pole", 5, False, (153, 153, 153)),
    Label(18, "polegroup", IGNORED, False, (153, 153, 153)),
    Label(19, "traffic light", 6, False, (250, 170, 30)),
    Label(20, "traffic sign", 7, False, (220, 220, 0)),
    Label(21, "vegetation", 8, False, (107, 142, 35)),
    Label(22, "terrain", 9, False, (152, 251, 152)),
    Label(23, "sky", 10, False, (70, 130, 180)),
    Label(24, "person", 11, True, (220, 20, 60)),
    Label(25, "rider", 12, True, (255, 0, 0)),
    Label(26, "car", 13, True, (0, 0, 142)),
    Label(27, "truck", 14, True, (0, 0, 70)),
    Label(28, "bus", 15, True, (0, 60, 100)),
    Label(29, "caravan", IGNORED, True, (0, 0, 90)),
    Label(30, "trailer", IGNORED, True, (0, 0, 110)),
    Label(31, "train", 16, True, (0, 80, 100)),
    Label(32, "motorcycle", 17, True, (0, 0, 230)),
    Label(33, "bicycle", 18, True, (119, 11, 32)),
)

#: Number of a label, by name.
ID: dict[str, int] = {label.name: label.id for label in LABELS}
#: The 19 evaluated classes, in the order of their train ids.
EVALUATED: tuple[Label, ...] = tuple(
    sorted((label for label in LABELS if label.train_id != IGNORED), key=lambda e: e.train_id)
)
#: Evaluated classes with instances.
THINGS: tuple[Label, ...] = tuple(label for label in EVALUATED if label.has_instances)

#: uint8 [34], train id of a raw id.
TRAIN_IDS = np.array([label.train_id for label in LABELS], np.uint8)
#: bool [34].
HAS_INSTANCES = np.array([label.has_instances for label in LABELS])
#: uint8 [34, 3].
COLORS = np.array([label.color for label in LABELS], np.uint8)
