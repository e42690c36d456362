"""Scenes in the tree of BDD100K's panoptic segmentation (Yu et al., CVPR 2020)."""

from __future__ import annotations

import json
import os

import numpy as np
from scipy import ndimage

from slotseg.data.datasets.bdd100k import CATEGORIES, CROWD, FIRST_THING, OCCLUDED, TRUNCATED
from slotseg.data.synthetic.street_trees.tree import (
    StreetTree,
    encode_jpeg,
    encode_png,
    outer_contours,
)
from slotseg.data.synthetic.streets import StreetImage
from slotseg.data.synthetic.streets.labels import HAS_INSTANCES, LABELS
from slotseg.errors import DatasetError

# Of the 40 classes a scene has those that Cityscapes knows too; banners, billboards, cones and the
# like do not occur.
_NATIVE_IDS = {category.name: category.id for category in CATEGORIES}
# uint8 [34]: native class of a label of Cityscapes, 0 where there is none.
_NATIVE_OF_LABEL = np.array([_NATIVE_IDS.get(label.name, 0) for label in LABELS], np.uint8)


class Bdd100kTree(StreetTree):
    """JPEG images, RGBA bitmasks and one JSON of polygons for each split.

    In a bitmask R is the class, G the attributes and 256 B + A the number of the segment: the
    class itself for stuff, from 31 on for things.
    """

    name = "bdd100k"
    style = "bdd100k"
    stream = 4

    def folders(self, split: str) -> tuple[str, ...]:
        return (
            f"images/10k/{split}",
            f"labels/pan_seg/bitmasks/{split}",
            f"labels/pan_seg/polygons/pan_seg_{split}.json",
        )

    def scene_files(self, split: str, index: int) -> tuple[str, ...]:
        stem = _stem(split, index)
        return (
            f"images/10k/{split}/{stem}.jpg",
            # Collected into the file of the split at the end.
            f"frames/{stem}.json",
            f"labels/pan_seg/bitmasks/{split}/{stem}.png",
        )

    def encode(self, split: str, index: int, scene: StreetImage) -> tuple[bytes, ...]:
        bitmask, frame = describe_segments(scene)
        frame = {"name": f"{_stem(split, index)}.jpg", **frame}
        return encode_jpeg(scene.image), json.dumps(frame).encode(), encode_png(bitmask)

    def summarize(self, split: str, num_scenes: int, folder: str) -> dict[str, bytes]:
        frames = []
        for index in range(num_scenes):
            path = os.path.join(folder, self.scene_files(split, index)[1])
            try:
                with open(path, encoding="utf-8") as file:
                    frames.append(json.load(file))
            except ValueError as error:
                raise DatasetError(f"{path}: damaged; delete it and run again") from error
        return {self.folders(split)[2]: json.dumps(frames).encode()}


def describe_segments(scene: StreetImage) -> tuple[np.ndarray, dict]:
    """Bitmask uint8 [H, W, 4] of a scene, and its frame in Scalabel's format without the name.

    The frame has one label for each segment: ``id``, ``category``, ``attributes`` (truncated,
    occluded, crowd) and ``poly2d``, one closed polygon for each connected part.
    """
    ids, compact = np.unique(scene.instance_ids, return_inverse=True)
    compact = compact.reshape(scene.instance_ids.shape)
    table = np.zeros((len(ids), 4), np.uint8)
    labels = []
    number = FIRST_THING - 1
    height, width = compact.shape
    windows = ndimage.find_objects(compact + 1)
    for k, (value, window) in enumerate(zip(ids.tolist(), windows, strict=True)):
        label = value if value < 1000 else value // 1000
        native = int(_NATIVE_OF_LABEL[label])
        if not native:
            continue
        attributes = 0
        segment = native
        if native >= FIRST_THING:
            number += 1
            segment = number
            rows, columns = window
            at_border = rows.start == 0 or columns.start == 0
            if at_border or rows.stop == height or columns.stop == width:
                attributes |= TRUNCATED
            if value in scene.occluded:
                attributes |= OCCLUDED
            if value < 1000 and HAS_INSTANCES[label]:
                attributes |= CROWD
        table[k] = (native, attributes, segment >> 8, segment & 255)
        offset = (window[1].start, window[0].start)
        labels.append(
            {
                "id": str(segment),
                "category": LABELS[label].name,
                "attributes": {
                    "truncated": bool(attributes & TRUNCATED),
                    "occluded": bool(attributes & OCCLUDED),
                    "crowd": bool(attributes & CROWD),
                },
                "poly2d": [
                    {"vertices": outline.tolist(), "types": "L" * len(outline), "closed": True}
                    for outline in outer_contours(compact[window] == k, offset)
                ],
            }
        )
    return table[compact], {"labels": labels}


def _stem(split: str, index: int) -> str:
    return f"generated-{split}-{index:06d}"
