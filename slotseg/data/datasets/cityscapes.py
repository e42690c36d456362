"""Cityscapes panoptic: its classes, and its conversion by the official scripts."""

from __future__ import annotations

import os
from typing import Any

from slotseg.classes import Category
from slotseg.data.datasets.coco_panoptic import converted_by, generated_by, register_if_free

CATEGORIES = (
    Category(7, "road", False, (128, 64, 128)),
    Category(8, "sidewalk", False, (244, 35, 232)),
    Category(11, "building", False, (70, 70, 70)),
    Category(12, "wall", False, (102, 102, 156)),
    Category(13, "fence", False, (190, 153, 153)),
    Category(17, "pole", False, (153, 153, 153)),
    Category(19, "traffic light", False, (250, 170, 30)),
    Category(20, "traffic sign", False, (220, 220, 0)),
    Category(21, "vegetation", False, (107, 142, 35)),
    Category(22, "terrain", False, (152, 251, 152)),
    Category(23, "sky", False, (70, 130, 180)),
    Category(24, "person", True, (220, 20, 60)),
    Category(25, "rider", True, (255, 0, 0)),
    Category(26, "car", True, (0, 0, 142)),
    Category(27, "truck", True, (0, 0, 70)),
    Category(28, "bus", True, (0, 60, 100)),
    Category(31, "train", True, (0, 80, 100)),
    Category(32, "motorcycle", True, (0, 0, 230)),
    Category(33, "bicycle", True, (119, 11, 32)),
)
"""The 19 evaluated classes with the label ids, names and colours of the official scripts, in the
order of their training ids, so that contiguous number = training id."""


def register_cityscapes() -> None:
    """Register the real and the generated sets; a name that is taken already is left as it is."""
    for split in ("train", "val"):
        _register(f"cityscapes_panoptic_{split}", "cityscapes", split, converted_by("cityscapes"))
    for split in ("train", "tune", "val"):
        root = "streets_generated/cityscapes"
        _register(f"cityscapes_generated_{split}", root, split, generated_by("cityscapes"))


def _register(name: str, root: str, split: str, how_to_get: str) -> None:
    register_if_free(
        name,
        os.path.join(root, "leftImg8bit", split),
        *panoptic_paths(os.path.join(root, "gtFine"), split),
        CATEGORIES,
        image_name=image_name,
        how_to_get=how_to_get,
    )


def panoptic_paths(gt_fine: str, split: str) -> tuple[str, str]:
    """(folder of PNGs, JSON file) of a split, where the official scripts put them."""
    folder = os.path.join(gt_fine, f"cityscapes_panoptic_{split}")
    return folder, f"{folder}.json"


def image_name(image: dict[str, Any]) -> str:
    """Path of an image below ``leftImg8bit/<split>``.

    The ``file_name`` that the official scripts write does not exist
    (``..._gtFine_leftImg8bit.png``), so the path is made of the id.
    """
    image_id = str(image["id"])
    return f"{image_id.rsplit('_', 2)[0]}/{image_id}_leftImg8bit.png"
