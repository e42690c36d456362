"""CLEVR as a panoptic set: the shapes are things, the background is stuff.

Made from finished scene folders (:mod:`slotseg.data.scene_folder`), whose attributes name the
shape of every object: of CLEVR with masks as ``datasets/prepare_clevr.py`` converts it, or of
generated scenes. Beside them it puts ``panoptic_<split>.json`` and ``panoptic_<split>/``, with
segment id 1 for the background and i + 1 for object i.
"""

from __future__ import annotations

import functools
import os

from detectron2.utils.file_io import PathManager

from slotseg.classes import Category
from slotseg.data.datasets.conversion import convert
from slotseg.data.datasets.native import (
    LabelFile,
    NativeSplit,
    NoTreeError,
    Segment,
    Segments,
    find_segments,
    read_label_png,
    register_native,
    stem,
)
from slotseg.data.scene_folder import VOID, load_scenes
from slotseg.errors import DatasetError

CATEGORIES = (
    Category(1, "background", False, (128, 128, 128)),
    Category(2, "cube", True, (214, 69, 65)),
    Category(3, "sphere", True, (65, 131, 215)),
    Category(4, "cylinder", True, (38, 166, 91)),
)

SHAPE_OF_CODE = {"1": "sphere", "2": "cylinder", "3": "cube"}
"""CLEVR with masks stores shapes as numbers without names. These are seen in its first record,
where three objects of code 1, one of code 2 and three of code 3 are such in the picture."""

_ID_OF_SHAPE = {category.name: category.id for category in CATEGORIES}


def register_clevr_panoptic() -> None:
    """Register the real and the generated sets; a name that is taken already is left as it is."""
    for split in ("train", "val"):
        _register(f"clevr_panoptic_{split}", "clevr", split)
    for split in ("train", "tune", "val"):
        _register(f"clevr_generated_panoptic_{split}", "clevr_generated", split)


def convert_clevr_panoptic(root: str, split: str, num_workers: int = 1) -> None:
    """Make the panoptic files of one split.

    Args:
        root: folder of the scene folders, such as ``$DETECTRON2_DATASETS/clevr``.
        split: name of one of them.
        num_workers: processes.

    Raises:
        DatasetError: see :func:`slotseg.data.datasets.conversion.convert`; also scenes without
            masks or without shapes.
    """
    convert(native_split(root, split), num_workers)


def native_split(root: str, split: str) -> NativeSplit:
    """A scene folder as a set to convert."""
    panoptic_root = os.path.join(root, f"panoptic_{split}")
    return NativeSplit(
        title=f"CLEVR {split}",
        categories=CATEGORIES,
        panoptic_json=f"{panoptic_root}.json",
        panoptic_root=panoptic_root,
        files=functools.partial(_files, os.path.join(root, split)),
        read=_read,
    )


def _register(name: str, root: str, split: str) -> None:
    how_to_get = (
        "make the scenes as datasets/README.md says, then run "
        f"`python datasets/prepare_clevr_panoptic.py --sets {root}`"
    )
    split_of = functools.partial(native_split, split=split)
    register_native(name, split_of, root, os.path.join(root, split), how_to_get)


def _files(folder: str) -> list[LabelFile]:
    if not PathManager.isdir(folder):
        raise NoTreeError(
            f"{folder}: no scenes here; datasets/README.md says how to make or convert them"
        )
    files = []
    for scene in load_scenes(folder)["scenes"]:
        if scene["mask"] is None:
            raise DatasetError(f"{folder}: {scene['image']} has no mask; panoptic sets need masks")
        name = stem(scene["image"])
        files.append(
            LabelFile(
                name,
                os.path.join(folder, scene["image"]),
                os.path.join(folder, scene["mask"]),
                scene["image"],
                f"{name}.png",
                tuple(str(entry.get("shape", "")) for entry in scene["objects"]),
            )
        )
    return files


def _read(file: LabelFile) -> Segments:
    mask = read_label_png(file.label, 8, "grey")
    return find_segments(mask, functools.partial(_describe, file.shapes))


def _describe(shapes: tuple[str, ...], value: int) -> Segment | None:
    if value == VOID:
        return None
    if value == 0:
        return Segment(1, _ID_OF_SHAPE["background"])
    if value > len(shapes):
        raise ValueError(
            f"value {value}: scenes.json lists {len(shapes)} objects for it; make the scenes again"
        )
    shape = SHAPE_OF_CODE.get(shapes[value - 1], shapes[value - 1])
    if _ID_OF_SHAPE.get(shape) in (None, _ID_OF_SHAPE["background"]):
        raise ValueError(
            f"value {value}: scenes.json has {shape!r} as shape of this object, expected cube, "
            "sphere or cylinder"
        )
    return Segment(value + 1, _ID_OF_SHAPE[shape])
