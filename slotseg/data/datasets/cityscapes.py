"""Cityscapes panoptic (Cordts et al. 2016): its classes, and its conversion.

::

    cityscapes/
      leftImg8bit/{train,val}/<city>/<city>_<seq>_<frame>_leftImg8bit.png
      gtFine/{train,val}/<city>/<city>_<seq>_<frame>_gtFine_instanceIds.png   16-bit grey

A value of ``instanceIds`` below 1000 is a label id: stuff, or several things that are not told
apart (crowd). Others are 1000 * label id + number of the instance. The official scripts make
``gtFine/cityscapes_panoptic_<split>.json`` and a folder beside it of the same name, with the value
as segment id; classes that are not evaluated become void.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import tempfile
from typing import Any

import numpy as np
from detectron2.utils.file_io import PathManager

from slotseg.classes import Category
from slotseg.data.datasets.coco_panoptic import converted_by, generated_by
from slotseg.data.datasets.conversion import convert
from slotseg.data.datasets.native import (
    LabelFile,
    NativeSplit,
    NoTreeError,
    Segment,
    Segments,
    find_segments,
    folder_names,
    png_names,
    read_label_png,
    register_native,
)
from slotseg.errors import DatasetError
from slotseg.files import write_atomically

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

LABEL_IDS = range(34)
"""All label ids, also those that are not evaluated."""

_THINGS = {category.id for category in CATEGORIES if category.is_thing} | {29, 30}
_EVALUATED = {category.id for category in CATEGORIES}
_LABEL_SUFFIX = "_gtFine_instanceIds.png"


def register_cityscapes() -> None:
    """Register the real and the generated sets; a name that is taken already is left as it is."""
    for split in ("train", "val"):
        _register(f"cityscapes_panoptic_{split}", "cityscapes", split, converted_by("cityscapes"))
    for split in ("train", "tune", "val"):
        root = "streets_generated/cityscapes"
        _register(f"cityscapes_generated_{split}", root, split, generated_by("cityscapes"))


def convert_cityscapes(root: str, split: str, num_workers: int = 1) -> None:
    """Make the panoptic files of one split with the official scripts (``cityscapesscripts``).

    Args:
        root: folder of ``leftImg8bit`` and ``gtFine``.
        split: "train", "val" or another folder of theirs.
        num_workers: processes.

    Raises:
        DatasetError: see :func:`slotseg.data.datasets.conversion.convert`.
    """
    convert(native_split(root, split), num_workers)


def native_split(root: str, split: str) -> NativeSplit:
    """A split of Cityscapes as it was published."""
    panoptic_root, panoptic_json = panoptic_paths(os.path.join(root, "gtFine"), split)
    return NativeSplit(
        title=f"Cityscapes {split}",
        categories=CATEGORIES,
        panoptic_json=panoptic_json,
        panoptic_root=panoptic_root,
        files=functools.partial(_files, root, split),
        read=_read,
        write=_write_with_official_scripts,
    )


def describe_instance_id(value: int) -> Segment | None:
    """What a value of ``instanceIds`` stands for; None is void.

    Raises:
        ValueError: no such label, or an instance of stuff: training ids, perhaps.
    """
    label, number = (value, 0) if value < 1000 else divmod(value, 1000)
    if label not in LABEL_IDS:
        raise ValueError(
            f"id {value}: Cityscapes has no label {label}; are these label ids of this release?"
        )
    if value >= 1000 and label not in _THINGS:
        raise ValueError(
            f"id {value}: instance {number} of label {label}, which is stuff; are these training "
            "ids? Label ids are needed"
        )
    if label not in _EVALUATED:
        return None
    return Segment(value, label, iscrowd=value < 1000 and label in _THINGS)


def _register(name: str, root: str, split: str, how_to_get: str) -> None:
    split_of = functools.partial(native_split, split=split)
    image_root = os.path.join(root, "leftImg8bit", split)
    register_native(name, split_of, root, image_root, how_to_get, image_name)


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


def _files(root: str, split: str) -> list[LabelFile]:
    labels = os.path.join(root, "gtFine", split)
    images = os.path.join(root, "leftImg8bit", split)
    files = []
    for city in folder_names(labels):
        for name in png_names(os.path.join(labels, city)):
            if not name.endswith(_LABEL_SUFFIX):
                continue
            image_id = name.removesuffix(_LABEL_SUFFIX)
            image = f"{city}/{image_id}_leftImg8bit.png"
            files.append(
                LabelFile(
                    image_id,
                    os.path.join(images, image),
                    os.path.join(labels, city, name),
                    image,
                    f"{image_id}_gtFine_panoptic.png",
                )
            )
    if not files:
        raise NoTreeError(
            f"{labels}: no <city>/*{_LABEL_SUFFIX} here; datasets/README.md says where to get "
            "Cityscapes and how to lay it out"
        )
    return files


def _read(file: LabelFile) -> Segments:
    values = read_label_png(file.label, 16, "grey")
    segments = find_segments(values, describe_instance_id)
    label_ids = file.label.replace("_instanceIds", "_labelIds")
    if PathManager.isfile(label_ids):
        expected = np.where(values < 1000, values, values // 1000)
        given = read_label_png(label_ids, 8, "grey")
        if given.shape != expected.shape or (given != expected).any():
            segments.faults.append(
                f"contradicts {os.path.basename(label_ids)}; are both of one release?"
            )
    return segments


def _write_with_official_scripts(file: LabelFile, png_path: str) -> list[dict[str, Any]]:
    # They convert whole folders in one process; a folder that holds a link to one file lets them
    # run in parallel and go on where they were.
    with tempfile.TemporaryDirectory() as staged:
        city = os.path.join(staged, "one", "city")
        os.makedirs(city)
        os.symlink(os.path.abspath(file.label), os.path.join(city, os.path.basename(file.label)))
        # They report progress for every file.
        with contextlib.redirect_stdout(io.StringIO()):
            _official_converter()(staged, staged, useTrainId=False, setNames=["one"])
        folder = os.path.join(staged, "cityscapes_panoptic_one")
        with open(f"{folder}.json", encoding="utf-8") as stream:
            annotation = json.load(stream)["annotations"][0]
        with open(os.path.join(folder, annotation["file_name"]), "rb") as stream:
            write_atomically(png_path, stream.read())
        return annotation["segments_info"]


def _official_converter() -> Any:
    try:
        from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic
    except ImportError as error:
        raise DatasetError(
            f"Cityscapes is converted by its official scripts, which do not import ({error}); run "
            "`pip install cityscapesscripts`"
        ) from error
    return convert2panoptic
