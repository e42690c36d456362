"""KITTI in its three panoptic forms. Classes are those of Cityscapes, with its label ids.

KITTI 2015 semantics (Alhaija et al. 2018), 200 images; ``instance`` is 16-bit grey,
256 * label id + number of the instance::

    kitti2015/training/{image_2,semantic,instance}/000000_10.png

KITTI panoptic (Mohan and Valada, *EfficientPS*, 2021), 855 + 200 images; 8-bit RGB annotations
whose R + 256 G + 65536 B is a Cityscapes instance id::

    kitti_panoptic/{training,validation}/{images,annotations}/<name>.png

KITTI-STEP (Weber et al. 2021), 12 + 9 sequences; 8-bit RGB maps, R the training id (255 void),
256 G + B the number of the instance. Only persons and cars have instances::

    kitti_step/images/{train,val}/<sequence>/<frame>.png
    kitti_step/panoptic_maps/{train,val}/<sequence>/<frame>.png

Things with instance number 0 are not told apart: crowd. Stuff is one segment a class, whatever
instance number it has. All three are converted to ``panoptic_<split>.json`` and
``panoptic_<split>/``, with the instance ids of Cityscapes as segment ids.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable

from detectron2.utils.file_io import PathManager

from slotseg.data.datasets.cityscapes import CATEGORIES, LABEL_IDS, describe_instance_id
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
    stem,
)
from slotseg.errors import DatasetError
from slotseg.panoptic_png import read_id_map

STEP_CATEGORIES = tuple(
    dataclasses.replace(category, is_thing=category.name in ("person", "car"))
    for category in CATEGORIES
)
"""The classes of KITTI-STEP: 17 stuff, 2 things."""

FIRST_VAL_IMAGE_2015 = 160
"""KITTI 2015 publishes labels for 200 images and no split of them: numbers from this one on are
``val``. Neighbouring numbers were often taken on one drive, so a split that alternates would test
on near copies of training images."""

FOLDERS = {"train": "training", "tune": "tuning", "val": "validation"}
"""KITTI's own names of splits, and one more of their kind for generated images."""

_IS_THING = {category.id: category.is_thing for category in CATEGORIES}
_VOID_TRAINING_ID = 255
_README = "datasets/README.md says where to get it and how to lay it out"


def register_kitti() -> None:
    """Register the real and the generated sets; a name that is taken already is left as it is."""
    real, generated = ("train", "val"), ("train", "tune", "val")
    for name, split_of in _RELEASES.items():
        for split in real:
            of_root = functools.partial(split_of, split=split)
            registered = f"{_PREFIXES[name]}_{split}"
            register_native(registered, of_root, name, name, converted_by("kitti"))
        for split in generated:
            of_root = functools.partial(split_of, split=split)
            registered = f"{name.removesuffix('_panoptic')}_generated_{split}"
            root = f"streets_generated/{name}"
            register_native(registered, of_root, root, root, generated_by(name))


def convert_kitti2015(root: str, split: str, num_workers: int = 1) -> None:
    """Convert one split of KITTI 2015 semantics.

    Args:
        root: folder of ``training``, and of ``validation`` where somebody has split it; if there
            is none, :data:`FIRST_VAL_IMAGE_2015` splits ``training``.
        split: "train" or "val" ("tune" for generated images).
        num_workers: processes.

    Raises:
        DatasetError: see :func:`slotseg.data.datasets.conversion.convert`.
    """
    convert(kitti2015_split(root, split), num_workers)


def convert_kitti_panoptic(root: str, split: str, num_workers: int = 1) -> None:
    """Convert one split of KITTI panoptic; arguments as :func:`convert_kitti2015`.

    Its annotations are written anew, because they may hold ids of classes that are not evaluated.
    """
    convert(kitti_panoptic_split(root, split), num_workers)


def convert_kitti_step(root: str, split: str, num_workers: int = 1) -> None:
    """Convert one split of KITTI-STEP; arguments as :func:`convert_kitti2015`."""
    convert(kitti_step_split(root, split), num_workers)


def kitti2015_split(root: str, split: str) -> NativeSplit:
    """A split of KITTI 2015 semantics as it was published."""
    files = functools.partial(_files_2015, root, split)
    return _native_split("KITTI 2015", root, split, files, _read_2015)


def kitti_panoptic_split(root: str, split: str) -> NativeSplit:
    """A split of KITTI panoptic as it was published."""
    files = functools.partial(_files_panoptic, root, split)
    return _native_split("KITTI panoptic", root, split, files, _read_panoptic)


def kitti_step_split(root: str, split: str) -> NativeSplit:
    """A split of KITTI-STEP as it was published."""
    files = functools.partial(_files_step, root, split)
    native = _native_split("KITTI-STEP", root, split, files, _read_step)
    return dataclasses.replace(native, categories=STEP_CATEGORIES)


_RELEASES: dict[str, Callable[[str, str], NativeSplit]] = {
    "kitti2015": kitti2015_split,
    "kitti_panoptic": kitti_panoptic_split,
    "kitti_step": kitti_step_split,
}
_PREFIXES = {
    "kitti2015": "kitti2015_panoptic",
    "kitti_panoptic": "kitti_panoptic",
    "kitti_step": "kitti_step_panoptic",
}


def _native_split(
    release: str,
    root: str,
    split: str,
    files: Callable[[], list[LabelFile]],
    read: Callable[[LabelFile], Segments],
) -> NativeSplit:
    panoptic_root = os.path.join(root, f"panoptic_{split}")
    return NativeSplit(
        title=f"{release} {split}",
        categories=CATEGORIES,
        panoptic_json=f"{panoptic_root}.json",
        panoptic_root=panoptic_root,
        files=files,
        read=read,
    )


def _files_2015(root: str, split: str) -> list[LabelFile]:
    own_folder = PathManager.isdir(os.path.join(root, FOLDERS["val"])) or split not in (
        "train",
        "val",
    )
    folder = _folder_of(split) if own_folder else FOLDERS["train"]
    names = png_names(os.path.join(root, folder, "instance"))
    if not own_folder:
        names = [name for name in names if _is_val_2015(root, name) == (split == "val")]
    return _checked(
        [_label_file(root, f"{folder}/image_2", f"{folder}/instance", name) for name in names],
        os.path.join(root, folder, "instance"),
        "KITTI 2015 semantics",
    )


def _files_panoptic(root: str, split: str) -> list[LabelFile]:
    folder = _folder_of(split)
    labels = os.path.join(root, folder, "annotations")
    return _checked(
        [
            _label_file(root, f"{folder}/images", f"{folder}/annotations", name)
            for name in png_names(labels)
        ],
        labels,
        "KITTI panoptic",
    )


def _files_step(root: str, split: str) -> list[LabelFile]:
    labels = os.path.join(root, "panoptic_maps", split)
    return _checked(
        [
            LabelFile(
                f"{sequence}_{stem(name)}",  # frame numbers recur in every sequence
                os.path.join(root, "images", split, sequence, name),
                os.path.join(labels, sequence, name),
                f"images/{split}/{sequence}/{name}",
                f"{sequence}/{name}",
            )
            for sequence in folder_names(labels)
            for name in png_names(os.path.join(labels, sequence))
        ],
        labels,
        "KITTI-STEP",
    )


def _label_file(root: str, images: str, labels: str, name: str) -> LabelFile:
    return LabelFile(
        stem(name),
        os.path.join(root, images, name),
        os.path.join(root, labels, name),
        f"{images}/{name}",
        name,
    )


def _checked(files: list[LabelFile], folder: str, release: str) -> list[LabelFile]:
    if not files:
        raise NoTreeError(f"{folder}: no label files of {release} here; {_README}")
    return files


def _folder_of(split: str) -> str:
    if split not in FOLDERS:
        raise DatasetError(f"KITTI has no split {split!r}; choose one of {', '.join(FOLDERS)}")
    return FOLDERS[split]


def _is_val_2015(root: str, name: str) -> bool:
    number = name.split("_")[0]
    if not number.isdigit():
        raise DatasetError(
            f"{os.path.join(root, FOLDERS['train'], 'instance', name)}: not named as KITTI 2015 "
            "does (000000_10.png); which release is this?"
        )
    return int(number) >= FIRST_VAL_IMAGE_2015


def _read_2015(file: LabelFile) -> Segments:
    values = read_label_png(file.label, 16, "grey")
    segments = find_segments(values, _describe_2015)
    semantic = os.path.join(os.path.dirname(os.path.dirname(file.label)), "semantic")
    semantic = os.path.join(semantic, os.path.basename(file.label))
    if PathManager.isfile(semantic):
        given = read_label_png(semantic, 8, "grey")
        if given.shape != values.shape or (given != values // 256).any():
            segments.faults.append(f"contradicts {semantic}; are both of one release?")
    return segments


def _describe_2015(value: int) -> Segment | None:
    label, number = divmod(value, 256)
    if label not in LABEL_IDS:
        raise ValueError(
            f"value {value}: there is no label {label}; are these label ids of this release?"
        )
    return _segment(label, number, _IS_THING.get(label))


def _read_panoptic(file: LabelFile) -> Segments:
    return find_segments(read_id_map(file.label), describe_instance_id)


def _read_step(file: LabelFile) -> Segments:
    return find_segments(read_id_map(file.label), _describe_step)


def _describe_step(value: int) -> Segment | None:
    training_id = value % 256
    number = 256 * (value // 256 % 256) + value // 65536
    if training_id == _VOID_TRAINING_ID:
        return None
    if training_id >= len(STEP_CATEGORIES):
        raise ValueError(
            f"R = {training_id} (instance {number}): KITTI-STEP has training ids 0 to 18 and 255; "
            "is this a map of another data set?"
        )
    category = STEP_CATEGORIES[training_id]
    return _segment(category.id, number, category.is_thing)


def _segment(label: int, number: int, is_thing: bool | None) -> Segment | None:
    """A segment numbered as Cityscapes does; ``is_thing`` is None for classes not evaluated."""
    if is_thing is None:
        return None
    if not is_thing or number == 0:
        return Segment(label, label, iscrowd=is_thing)
    if number >= 1000:
        raise ValueError(
            f"instance {number} of label {label}: numbers from 1000 on do not fit the ids of "
            "Cityscapes; is this a map of another data set?"
        )
    return Segment(1000 * label + number, label)
