"""Scenes in the tree of Cityscapes (Cordts et al., CVPR 2016)."""

from __future__ import annotations

import json

import cv2
import numpy as np
from scipy import ndimage

from slotseg.data.synthetic.street_trees.tree import StreetTree, encode_png, outer_contours
from slotseg.data.synthetic.streets import StreetImage
from slotseg.data.synthetic.streets.labels import COLORS, HAS_INSTANCES, LABELS, TRAIN_IDS

#: As in the real set no city is in two splits. Names have no underscores: these separate the parts
#: of a file name.
CITIES: dict[str, tuple[str, ...]] = {
    "train": ("northgate", "eastham", "southwick", "westbridge"),
    "tune": ("millbrook",),
    "val": ("harrowby", "longford"),
}
_FRAME = 19  # the annotated one of a snippet of 30


class CityscapesTree(StreetTree):
    """``leftImg8bit/<split>/<city>/`` and ``gtFine/<split>/<city>/``."""

    name = "cityscapes"
    style = "cityscapes"
    stream = 0

    def folders(self, split: str) -> tuple[str, ...]:
        return (f"leftImg8bit/{split}", f"gtFine/{split}")

    def scene_files(self, split: str, index: int) -> tuple[str, ...]:
        city = CITIES[split][index % len(CITIES[split])]
        stem = f"{city}/{city}_{index:06d}_{_FRAME:06d}"
        truth = f"gtFine/{split}/{stem}_gtFine_"
        return (
            f"leftImg8bit/{split}/{stem}_leftImg8bit.png",
            f"{truth}labelIds.png",
            f"{truth}labelTrainIds.png",
            f"{truth}color.png",
            f"{truth}polygons.json",
            f"{truth}instanceIds.png",
        )

    def encode(self, split: str, index: int, scene: StreetImage) -> tuple[bytes, ...]:
        color = np.full((*scene.label_ids.shape, 4), 255, np.uint8)
        color[..., :3] = COLORS[scene.label_ids]
        return (
            encode_png(scene.image),
            encode_png(scene.label_ids),
            encode_png(TRAIN_IDS[scene.label_ids]),
            encode_png(color),
            json.dumps(describe_polygons(scene.instance_ids)).encode(),
            encode_png(scene.instance_ids.astype(np.uint16)),
        )


def describe_polygons(instance_ids: np.ndarray) -> dict:
    """Annotation of a scene as polygons, to be painted one over the other in their order.

    Each connected part is an object of its own: polygons cannot say that two visible parts belong
    to one thing, ``instanceIds`` can. Painting larger outlines first fills what lies in holes
    correctly.

    Args:
        instance_ids: int [H, W], Cityscapes instance ids.

    Returns:
        The content of a ``polygons.json``: imgHeight, imgWidth and objects, each with a label
        (with the suffix "group" for crowd) and a polygon of [column, row] corners.
    """
    ids, compact = np.unique(instance_ids, return_inverse=True)
    compact = compact.reshape(instance_ids.shape) + 1
    windows = ndimage.find_objects(compact)
    found: list[tuple[float, str, np.ndarray]] = []
    for number, (value, window) in enumerate(zip(ids.tolist(), windows, strict=True)):
        label = value if value < 1000 else value // 1000
        name = LABELS[label].name
        if value < 1000 and HAS_INSTANCES[label]:
            name += "group"
        mask = compact[window] == number + 1
        rows, columns = window
        for outline in outer_contours(mask, (columns.start, rows.start)):
            # Area of the outline's pixels, not only of the polygon through their centres.
            area = cv2.contourArea(outline) + cv2.arcLength(outline, True) / 2 + 1
            found.append((area, name, outline))
    found.sort(key=lambda entry: -entry[0])
    objects = [{"label": name, "polygon": outline.tolist()} for _, name, outline in found]
    height, width = instance_ids.shape
    return {"imgHeight": height, "imgWidth": width, "objects": objects}
