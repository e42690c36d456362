"""CLEVR, in its three forms, as Detectron2 data sets.

=====================================  =========================================================
``clevr_{train,val}``                  CLEVR with masks, converted by ``datasets/prepare_clevr.py``
``clevr6_{train,val}``                 those of its scenes that have at most 6 objects
``clevr_generated_{train,tune,val}``   scenes made by ``tools/generate_clevr.py``
``clevr_v1_{train,val,test}``          CLEVR v1.0 as published: no masks
=====================================  =========================================================

All lie under ``$DETECTRON2_DATASETS`` (``datasets`` where it is not set), which is looked up when
a set is used, so registering touches no file. Each data set dict holds::

    file_name, image_id, height, width
    mask_file_name           absent where there are no masks; 8-bit grey, i = objects[i - 1]
    num_objects, objects     absent where nobody lists the objects (CLEVR v1.0's test split)
"""

from __future__ import annotations

import functools
import json
import os
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager

from slotseg.data.datasets.root import datasets_root, root_hint, shown
from slotseg.data.scene_folder import VOID, load_scenes
from slotseg.errors import DatasetError

_V1_FOLDER = "CLEVR_v1.0"
_V1_SIZE = (320, 480)

_PREPARE = "python datasets/prepare_clevr.py"
_GENERATE = "python tools/generate_clevr.py"
_DOWNLOAD = "download it as datasets/README.md says"

# (data set name, folder under the root, largest number of objects, how to get it)
_SCENE_SETS = [
    *((f"clevr_{split}", f"clevr/{split}", None, _PREPARE) for split in ("train", "val")),
    *((f"clevr6_{split}", f"clevr/{split}", 6, _PREPARE) for split in ("train", "val")),
    *(
        (f"clevr_generated_{split}", f"clevr_generated/{split}", None, _GENERATE)
        for split in ("train", "tune", "val")
    ),
]


def register_clevr() -> None:
    """Register all sets of this module; a name that is taken already is left as it is."""
    for name, folder, max_objects, command in _SCENE_SETS:
        load = functools.partial(_load_registered, name, folder, max_objects, command)
        _register(name, load, folder)
    for split in ("train", "val", "test"):
        name = f"clevr_v1_{split}"
        _register(name, functools.partial(_load_registered_v1, name, split), _V1_FOLDER)


def load_scene_dicts(
    folder: str, name: str, max_objects: int | None = None
) -> list[dict[str, Any]]:
    """Data set dicts of one scene folder.

    Args:
        folder: a finished split, see :mod:`slotseg.data.scene_folder`.
        name: data set name, which makes ``image_id`` unique among several sets.
        max_objects: leave out scenes with more objects (the background is not counted).

    Raises:
        DatasetError: see :func:`slotseg.data.scene_folder.load_scenes`.
    """
    content = load_scenes(folder)
    height, width = content["image_size"]
    dicts = []
    for scene in content["scenes"]:
        if max_objects is not None and len(scene["objects"]) > max_objects:
            continue
        entry = {
            "file_name": os.path.join(folder, scene["image"]),
            "image_id": f"{name}_{_stem(scene['image'])}",
            "height": height,
            "width": width,
            "num_objects": len(scene["objects"]),
            "objects": scene["objects"],
        }
        if scene["mask"] is not None:
            entry["mask_file_name"] = os.path.join(folder, scene["mask"])
        dicts.append(entry)
    return dicts


def load_clevr_v1_dicts(root: str, split: str) -> list[dict[str, Any]]:
    """Data set dicts of one split of CLEVR v1.0, without masks.

    Args:
        root: the folder ``CLEVR_v1.0`` that the published archive unpacks to. Attributes of
            the objects are read from its ``scenes``, where they are there.
        split: "train", "val" or "test".

    Raises:
        DatasetError: no pictures there, or a damaged scene file.
    """
    folder = os.path.join(root, "images", split)
    names = sorted(PathManager.ls(folder)) if PathManager.isdir(folder) else []
    names = [name for name in names if name.endswith(".png")]
    if not names:
        raise DatasetError(f"{folder}: no CLEVR v1.0 images here; {_DOWNLOAD}")
    objects = _load_v1_objects(os.path.join(root, "scenes", f"CLEVR_{split}_scenes.json"))
    height, width = _V1_SIZE
    dicts = []
    for name in names:
        entry = {
            "file_name": os.path.join(folder, name),
            "image_id": _stem(name),
            "height": height,
            "width": width,
        }
        if name in objects:
            entry |= {"num_objects": len(objects[name]), "objects": objects[name]}
        dicts.append(entry)
    return dicts


def _register(name: str, load: Any, folder: str) -> None:
    if name in DatasetCatalog:
        return
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        thing_classes=["object"],
        stuff_classes=["background"],
        thing_colors=[(220, 120, 60)],
        stuff_colors=[(128, 128, 128)],
        # From the numbers in the mask files' terms (background 0, object 1) to the index into
        # the class lists above.
        thing_dataset_id_to_contiguous_id={1: 0},
        stuff_dataset_id_to_contiguous_id={0: 0},
        ignore_label=VOID,
        evaluator_type="slots",
        scene_folder=folder,  # relative to the root, which may change until the set is used
    )


def _load_registered(
    name: str, folder: str, max_objects: int | None, command: str
) -> list[dict[str, Any]]:
    path = os.path.join(datasets_root(), folder)
    if not PathManager.exists(os.path.join(path, "scenes.json")):
        unfinished = PathManager.isdir(f"{path}.partial")
        raise DatasetError(
            f"data set {name}: {'unfinished' if unfinished else 'not found'} in "
            f"{shown(path)}; {'go on with' if unfinished else 'make it with'} `{command}` "
            f"{root_hint()}"
        )
    dicts = load_scene_dicts(path, name, max_objects)
    if not dicts:
        raise DatasetError(f"data set {name}: no scene in {path} has at most {max_objects} objects")
    return dicts


def _load_registered_v1(name: str, split: str) -> list[dict[str, Any]]:
    path = os.path.join(datasets_root(), _V1_FOLDER)
    if not PathManager.isdir(path):
        raise DatasetError(
            f"data set {name}: not found in {shown(path)}; {_DOWNLOAD} {root_hint()}"
        )
    return load_clevr_v1_dicts(path, split)


def _load_v1_objects(path: str) -> dict[str, list[dict[str, Any]]]:
    """Objects of each image by its file name, in this package's terms; empty without the file."""
    if not PathManager.exists(path):
        return {}
    try:
        with PathManager.open(path, "r", encoding="utf-8") as file:
            scenes = json.load(file)["scenes"]
        return {
            scene["image_filename"]: [
                {
                    **{key: entry[key] for key in ("shape", "size", "color", "material")},
                    "position": entry["3d_coords"],
                    "rotation": entry["rotation"],
                    "pixel_coords": entry["pixel_coords"],
                }
                for entry in scene["objects"]
            ]
            for scene in scenes
        }
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{path}: not a scene file of CLEVR v1.0, or cut short; download it again or delete "
            "it (it is needed only for the objects' attributes)"
        ) from error


def _stem(name: str) -> str:
    return os.path.splitext(os.path.basename(name))[0]
