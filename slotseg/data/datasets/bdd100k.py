"""BDD100K panoptic (Yu et al. 2020), with its 40 classes or the 19 of Cityscapes.

::

    bdd100k/
      images/10k/{train,val}/<name>.jpg
      labels/pan_seg/bitmasks/{train,val}/<name>.png       8-bit RGBA
      labels/pan_seg/polygons/pan_seg_{train,val}.json     only compared, where it is there

In a bitmask R is the class (0 none, 1 to 30 stuff, 31 to 40 things), G holds the attributes
truncated 8, occluded 4, crowd 2 and ignore 1, and 256 B + A is the number of the instance. Here
crowd becomes ``iscrowd``, ignored regions become void, and stuff is one segment a class, although
the files may number its parts. Segment ids are category id + 256 * number of the instance.
"""

from __future__ import annotations

import functools
import json
import os
from typing import Any

import numpy as np
from detectron2.utils.file_io import PathManager

from slotseg.classes import Category
from slotseg.data.datasets import cityscapes
from slotseg.data.datasets.coco_panoptic import converted_by, generated_by
from slotseg.data.datasets.conversion import convert
from slotseg.data.datasets.native import (
    LabelFile,
    NativeSplit,
    NoTreeError,
    Segment,
    Segments,
    distinct,
    find_segments,
    png_names,
    read_label_png,
    register_native,
    stem,
)
from slotseg.errors import DatasetError

FIRST_THING = 31

CATEGORIES = tuple(
    Category(number, name, number >= FIRST_THING, color)
    for number, (name, color) in enumerate(
        (
            ("dynamic", (111, 74, 0)),
            ("ego vehicle", (40, 40, 40)),
            ("ground", (81, 0, 81)),
            ("static", (90, 90, 60)),
            ("parking", (250, 170, 160)),
            ("rail track", (230, 150, 140)),
            ("road", (128, 64, 128)),
            ("sidewalk", (244, 35, 232)),
            ("bridge", (150, 100, 100)),
            ("building", (70, 70, 70)),
            ("fence", (190, 153, 153)),
            ("garage", (180, 100, 180)),
            ("guard rail", (180, 165, 180)),
            ("tunnel", (150, 120, 90)),
            ("wall", (102, 102, 156)),
            ("banner", (250, 170, 100)),
            ("billboard", (220, 220, 250)),
            ("lane divider", (255, 165, 0)),
            ("parking sign", (180, 20, 60)),
            ("pole", (153, 153, 153)),
            ("polegroup", (130, 130, 130)),
            ("street light", (220, 220, 100)),
            ("traffic cone", (255, 70, 0)),
            ("traffic device", (220, 220, 220)),
            ("traffic light", (250, 170, 30)),
            ("traffic sign", (220, 220, 0)),
            ("traffic sign frame", (250, 170, 250)),
            ("terrain", (152, 251, 152)),
            ("vegetation", (107, 142, 35)),
            ("sky", (70, 130, 180)),
            ("person", (220, 20, 60)),
            ("rider", (255, 0, 0)),
            ("bicycle", (119, 11, 32)),
            ("bus", (0, 60, 100)),
            ("car", (0, 0, 142)),
            ("caravan", (0, 0, 90)),
            ("motorcycle", (0, 0, 230)),
            ("trailer", (0, 0, 110)),
            ("train", (0, 80, 100)),
            ("truck", (0, 0, 70)),
        ),
        start=1,
    )
)
"""The 40 classes with the ids and names of the toolkit. Its colours too, but for five classes that
it paints black or in the colour of another class."""

CATEGORIES_19 = cityscapes.CATEGORIES
"""The classes of Cityscapes, with its label ids; they have the same names in both sets."""

_CATEGORIES = {40: CATEGORIES, 19: CATEGORIES_19}

TRUNCATED, OCCLUDED, CROWD, IGNORE = 8, 4, 2, 1
"""Attributes: the bits of G."""

_ATTRIBUTE_BITS = 4


def register_bdd100k() -> None:
    """Register the real and the generated sets; a name that is taken already is left as it is."""
    for classes, suffix in ((40, ""), (19, "19")):
        for split in ("train", "val"):
            name = f"bdd100k_panoptic{suffix}_{split}"
            _register(name, "bdd100k", split, classes, converted_by("bdd100k"))
        for split in ("train", "tune", "val"):
            name = f"bdd100k_generated{suffix}_{split}"
            root = "streets_generated/bdd100k"
            _register(name, root, split, classes, generated_by("bdd100k"))


def convert_bdd100k(root: str, split: str, classes: int = 40, num_workers: int = 1) -> None:
    """Convert one split to ``panoptic/<classes>_<split>.json`` and a folder of that name.

    Args:
        root: folder of ``images`` and ``labels``.
        split: "train" or "val" ("tune" for generated images).
        classes: 40, or 19 for those of Cityscapes; all others become void.
        num_workers: processes.

    Raises:
        DatasetError: see :func:`slotseg.data.datasets.conversion.convert`.
    """
    convert(native_split(root, split, classes), num_workers)


def native_split(root: str, split: str, classes: int = 40) -> NativeSplit:
    """A split of BDD100K as it was published.

    Raises:
        DatasetError: ``classes`` is neither 40 nor 19.
    """
    if classes not in _CATEGORIES:
        raise DatasetError(f"BDD100K is read with 40 or with 19 classes, not with {classes}")
    panoptic_root = os.path.join(root, "panoptic", f"{classes}_{split}")
    return NativeSplit(
        title=f"BDD100K {split}, {classes} classes",
        categories=_CATEGORIES[classes],
        panoptic_json=f"{panoptic_root}.json",
        panoptic_root=panoptic_root,
        files=functools.partial(_files, root, split),
        read=functools.partial(_read, _category_ids(classes)),
        other_faults=functools.partial(_polygon_faults, root, split),
    )


def _register(name: str, root: str, split: str, classes: int, how_to_get: str) -> None:
    split_of = functools.partial(native_split, split=split, classes=classes)
    register_native(name, split_of, root, os.path.join(root, "images", "10k", split), how_to_get)


def _category_ids(classes: int) -> dict[int, int]:
    """From R to the category id of the wanted classes; the others are missing."""
    id_of = {category.name: category.id for category in _CATEGORIES[classes]}
    return {entry.id: id_of[entry.name] for entry in CATEGORIES if entry.name in id_of}


def _files(root: str, split: str) -> list[LabelFile]:
    labels = os.path.join(root, "labels", "pan_seg", "bitmasks", split)
    files = [
        LabelFile(
            stem(name),
            os.path.join(root, "images", "10k", split, f"{stem(name)}.jpg"),
            os.path.join(labels, name),
            f"{stem(name)}.jpg",
            name,
        )
        for name in png_names(labels)
    ]
    if not files:
        raise NoTreeError(
            f"{labels}: no bitmasks of BDD100K here; datasets/README.md says where to get it and "
            "how to lay it out"
        )
    return files


def _read(category_ids: dict[int, int], file: LabelFile) -> Segments:
    rgba = read_label_png(file.label, 8, "RGBA")
    keys = (_numbers(rgba) * 256 + rgba[..., 0]) * 256 + rgba[..., 1]
    return find_segments(keys, functools.partial(_describe, category_ids))


def _numbers(rgba: np.ndarray) -> np.ndarray:
    """Number of the instance at each pixel."""
    return rgba[..., 2].astype(np.int64) << 8 | rgba[..., 3]


def _describe(category_ids: dict[int, int], key: int) -> Segment | None:
    rest, attributes = divmod(key, 256)
    number, native_id = divmod(rest, 256)
    if native_id > len(CATEGORIES):
        raise ValueError(
            f"R = {native_id} (instance {number}): BDD100K has the classes 1 to 40; is this a "
            "panoptic bitmask of BDD100K?"
        )
    if attributes >= 1 << _ATTRIBUTE_BITS:
        raise ValueError(
            f"G = {attributes} (class {native_id}, instance {number}): attributes have 4 bits; is "
            "this a panoptic bitmask of BDD100K?"
        )
    if native_id not in category_ids or attributes & IGNORE:
        return None
    category_id = category_ids[native_id]
    if native_id < FIRST_THING:
        return Segment(category_id, category_id)
    # A thing without a number is not told apart from others.
    crowd = bool(attributes & CROWD) or number == 0
    return Segment(category_id + 256 * number, category_id, crowd)


def _polygon_faults(root: str, split: str) -> list[str]:
    """Where the JSON of polygons and the bitmasks contradict each other; [] without the JSON."""
    path = os.path.join(root, "labels", "pan_seg", "polygons", f"pan_seg_{split}.json")
    if not PathManager.isfile(path):
        return []
    try:
        with PathManager.open(path, "r", encoding="utf-8") as stream:
            content = json.load(stream)
        frames = content["frames"] if isinstance(content, dict) else content
        listed = {stem(frame["name"]): _labels(frame) for frame in frames}
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [
            f"{path}: not a label file of BDD100K, or cut short ({' '.join(str(error).split())})"
        ]
    faults = []
    duplicates = len(frames) - len(listed)
    if duplicates:
        faults.append(f"{path}: {duplicates} images are listed twice")
    files = {file.image_id: file for file in _files(root, split)}
    faults += [f"{path}: {name} has no bitmask" for name in sorted(listed.keys() - files.keys())]
    for image_id, file in files.items():
        if image_id not in listed:
            faults.append(f"{file.label}: not listed in {path}")
            continue
        faults += [f"{file.label}: {text}" for text in _contradictions(file, listed[image_id])]
    return faults


def _labels(frame: dict[str, Any]) -> list[str]:
    return [label["category"] for label in frame.get("labels") or []]


def _contradictions(file: LabelFile, labels: list[str]) -> list[str]:
    """Classes that only one side has, and instances that the JSON does not have."""
    native_ids = {category.name: category.id for category in CATEGORIES}
    faults = [
        f"its polygons name an unknown class {name!r}"
        for name in sorted(set(labels) - native_ids.keys() - {"unlabeled"})
    ]
    try:
        rgba = read_label_png(file.label, 8, "RGBA")
    except DatasetError:
        return faults  # found by reading it as segments
    # Without the attributes, so that every instance is there once.
    found, _ = distinct(rgba[..., 0].astype(np.int64) << 16 | _numbers(rgba))
    for category in CATEGORIES:
        instances = int((found >> 16 == category.id).sum())
        given = labels.count(category.name)
        # A polygon may be hidden by others, so there can be more of them than in the bitmask.
        if instances and not given:
            faults.append(f"class {category.id} ({category.name}) is not among its polygons")
        elif category.is_thing and instances > given:
            faults.append(
                f"{instances} instances of class {category.id} ({category.name}), but {given} "
                "polygons"
            )
    return faults
