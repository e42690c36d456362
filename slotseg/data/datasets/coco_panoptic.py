"""The one on-disk form of panoptic sets, COCO panoptic, as a Detectron2 data set.

A set is one JSON file, a folder of images and a folder of PNGs::

    {"images":      [{"id", "file_name", "height", "width"}, ...],
     "annotations": [{"image_id", "file_name",
                      "segments_info": [{"id", "category_id", "area", "iscrowd"}, ...]}, ...],
     "categories":  [{"id", "name", "isthing", "color"}, ...]}

A PNG is 8-bit RGB; its pixels hold R + 256 G + 65536 B = ``id`` of their segment, 0 where there is
none (Kirillov et al., *Panoptic Segmentation*, 2019; https://cocodataset.org/#format-data).
Whatever a data set's own form is, ``datasets/prepare_*.py`` converts it into this one, so there is
one reader, one mapper and one evaluator.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager

from slotseg.classes import Category, set_class_metadata
from slotseg.data.datasets.root import resolve, root_hint, shown
from slotseg.errors import DatasetError
from slotseg.files import name_fault

ImageName = Callable[[dict[str, Any]], str]
"""From an entry of ``images`` to the path of its image under the image root."""

_OWN_SET = "check the paths that it was registered with"


def file_name_of(image: dict[str, Any]) -> str:
    """The default :data:`ImageName`: ``file_name`` as it is."""
    return image["file_name"]


def register_coco_panoptic(
    name: str,
    image_root: str,
    panoptic_root: str,
    panoptic_json: str,
    categories: Sequence[Category] | None = None,
    *,
    image_name: ImageName = file_name_of,
    how_to_get: str = _OWN_SET,
) -> None:
    """Register a data set in COCO panoptic form. Touches no file until the set is used.

    Relative paths lie under ``$DETECTRON2_DATASETS`` at the time of use. The dicts that
    ``DatasetCatalog.get(name)`` then gives are described at :func:`load_coco_panoptic`.

    Args:
        name: a new name, for ``DATASETS.TRAIN`` and ``DATASETS.TEST``.
        image_root: folder of the images.
        panoptic_root: folder of the PNGs.
        panoptic_json: the JSON file.
        categories: the classes, in the order of their contiguous numbers. None takes those of
            the JSON file, in its order, when the set is used for the first time, or when
            :func:`slotseg.classes.class_set` is asked for them.
        image_name: where the path of an image is not its ``file_name``.
        how_to_get: what to do if files are missing; ends the error messages about that.

    Raises:
        DatasetError: the name is taken.
    """
    if name in DatasetCatalog:
        raise DatasetError(f"data set {name}: registered already; choose another name")
    load = functools.partial(
        _load_registered,
        name,
        image_root,
        panoptic_root,
        panoptic_json,
        categories,
        image_name,
        how_to_get,
    )
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        evaluator_type="panoptic",
        image_root=image_root,
        panoptic_root=panoptic_root,
        panoptic_json=panoptic_json,
        image_name=image_name,
    )
    if categories is not None:
        set_class_metadata(name, categories)


def converted_by(prepare: str) -> str:
    """What to do if a downloaded set is missing."""
    return (
        f"get the set as datasets/README.md says, then run `python datasets/prepare_{prepare}.py`"
    )


def generated_by(street_set: str) -> str:
    """What to do if a generated set is missing."""
    return f"make it with `python tools/generate_streets.py --sets {street_set}`"


def load_coco_panoptic(
    image_root: str,
    panoptic_root: str,
    panoptic_json: str,
    categories: Sequence[Category] | None = None,
    image_name: ImageName = file_name_of,
) -> list[dict[str, Any]]:
    """Data set dicts of one JSON file; images and PNGs are not opened.

    Args:
        image_root: folder of the images.
        panoptic_root: folder of the PNGs.
        panoptic_json: the JSON file.
        categories: the classes in contiguous order; None takes those of the file.
        image_name: from an entry of ``images`` to a path under ``image_root``.

    Returns:
        One dict an image: ``file_name``, ``image_id`` (str, unique), ``height`` and ``width`` in
        pixels, ``pan_seg_file_name`` and ``segments_info``, a list of ``{"id", "category_id"
        (contiguous), "isthing" (bool), "iscrowd" (0 or 1), "area" (pixels)}``.

    Raises:
        DatasetError: a missing or damaged file, or an entry that cannot be right (see
            :func:`find_faults`); names the file and the entry.
    """
    content = read_json(panoptic_json)
    if categories is None:
        categories = categories_of(content, panoptic_json)
    faults = find_faults(content, categories)
    first = next(faults, None)
    if first is not None:
        more = sum(1 for _ in faults)
        also = f" (and {more} more, listed by tools/check_dataset.py)" if more else ""
        raise DatasetError(f"{panoptic_json}: {first}{also}")

    contiguous = {category.id: number for number, category in enumerate(categories)}
    annotations = {str(entry["image_id"]): entry for entry in content["annotations"]}
    dicts = []
    for image in content["images"]:
        image_id = str(image["id"])
        annotation = annotations[image_id]
        segments = []
        for segment in annotation["segments_info"]:
            number = contiguous[segment["category_id"]]
            segments.append(
                {
                    "id": segment["id"],
                    "category_id": number,
                    "isthing": categories[number].is_thing,
                    "iscrowd": int(segment.get("iscrowd", 0)),
                    "area": int(segment["area"]),
                }
            )
        dicts.append(
            {
                "file_name": os.path.join(image_root, image_name(image)),
                "image_id": image_id,
                "height": image["height"],
                "width": image["width"],
                "pan_seg_file_name": os.path.join(panoptic_root, annotation["file_name"]),
                "segments_info": segments,
            }
        )
    return dicts


def read_json(path: str) -> dict[str, Any]:
    """A parsed COCO panoptic file whose three lists are there.

    Raises:
        DatasetError: missing, cut short, or something else.
    """
    try:
        with PathManager.open(path, "r", encoding="utf-8") as file:
            content = json.load(file)
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be read ({error.strerror or error}); {_OWN_SET}"
        ) from error
    except ValueError as error:  # JSON and UTF-8 errors
        raise DatasetError(
            f"{path}: damaged or cut short ({' '.join(str(error).split())}); make or download it "
            "again"
        ) from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DatasetError(
                f'{path}: not a COCO panoptic file, it has no list "{key}"; is this the right JSON?'
            )
    return content


def categories_of(content: dict[str, Any], source: str) -> list[Category]:
    """The classes that a parsed file lists, in its order.

    A class without a colour is given one that depends on its position only.

    Args:
        content: from :func:`read_json`.
        source: the file, for errors.

    Raises:
        DatasetError: no classes, a class without id or name, or one id twice.
    """
    found: dict[int, Category] = {}
    for position, entry in enumerate(content["categories"]):
        if not _is_category(entry):
            raise DatasetError(
                f"{source}: entry {position} of categories is {entry!r}, expected id, name and "
                "isthing (0 or 1)"
            )
        if entry["id"] in found:
            raise DatasetError(f"{source}: category id {entry['id']} is listed twice")
        color = entry.get("color")
        found[entry["id"]] = Category(
            entry["id"],
            entry["name"],
            bool(entry["isthing"]),
            tuple(color) if _is_color(color) else _color(position),
        )
    if not found:
        raise DatasetError(f"{source}: it lists no categories")
    return list(found.values())


def find_faults(content: dict[str, Any], categories: Sequence[Category]) -> Iterator[str]:
    """Everything in a parsed file that training or evaluation would trip over.

    Args:
        content: from :func:`read_json`.
        categories: the classes that the set is meant to have.

    Yields:
        One line a fault, without the name of the file.
    """
    yield from _category_faults(content["categories"], categories)
    images: set[str] = set()
    for position, image in enumerate(content["images"]):
        fault = _image_fault(image)
        if fault:
            yield f"entry {position} of images: {fault}"
            continue
        if str(image["id"]) in images:
            yield f"image {image['id']}: its id is listed twice in images"
        images.add(str(image["id"]))
    if not content["images"]:
        yield "it lists no images"

    known = {category.id for category in categories}
    annotated: set[str] = set()
    png_of: dict[str, str] = {}
    for position, entry in enumerate(content["annotations"]):
        fault = _annotation_fault(entry)
        if fault:
            yield f"entry {position} of annotations: {fault}"
            continue
        image_id = str(entry["image_id"])
        if image_id in annotated:
            yield f"image {image_id}: it has two annotations"
        elif image_id not in images:
            yield f"image {image_id}: it is annotated, but not listed in images"
        if entry["file_name"] in png_of:
            yield f"image {image_id}: shares {entry['file_name']} with {png_of[entry['file_name']]}"
        annotated.add(image_id)
        png_of[entry["file_name"]] = image_id
        for fault in _segment_faults(entry["segments_info"], known):
            yield f"image {image_id}: {fault}"
    for image_id in sorted(images - annotated):
        yield f"image {image_id}: it has no annotation"


def _load_registered(
    name: str,
    image_root: str,
    panoptic_root: str,
    panoptic_json: str,
    categories: Sequence[Category] | None,
    image_name: ImageName,
    how_to_get: str,
) -> list[dict[str, Any]]:
    paths = [resolve(path) for path in (panoptic_json, panoptic_root, image_root)]
    for path, exists in zip(
        paths, (PathManager.isfile, PathManager.isdir, PathManager.isdir), strict=True
    ):
        # Object stores that iopath knows have no folders to ask for.
        if "://" not in path and not exists(path):
            raise DatasetError(
                f"data set {name}: {shown(path)} is not there; {how_to_get} {root_hint()}"
            )
    json_path, png_folder, image_folder = paths
    if categories is None:
        categories = categories_of(read_json(json_path), json_path)
        set_class_metadata(name, categories)
    return load_coco_panoptic(image_folder, png_folder, json_path, categories, image_name)


def _category_faults(listed: list[Any], categories: Sequence[Category]) -> Iterator[str]:
    """Where the file's classes contradict the set's: a label tree of another release."""
    expected = {category.id: category for category in categories}
    for position, entry in enumerate(listed):
        if not _is_category(entry):
            yield f"entry {position} of categories: {entry!r} lacks id, name or isthing"
        elif (category := expected.get(entry["id"])) is None:
            yield f"category {entry['id']} ({entry['name']}) is not one of this set; {_RELEASE}"
        elif (category.name, category.is_thing) != (entry["name"], bool(entry["isthing"])):
            yield (
                f"category {entry['id']} is {_described(entry['name'], entry['isthing'])}, in this "
                f"set {_described(category.name, category.is_thing)}; {_RELEASE}"
            )


_RELEASE = "is it of another release, or converted for other ids?"


def _described(name: str, is_thing: bool) -> str:
    return f"{name} ({'thing' if is_thing else 'stuff'})"


def _image_fault(image: Any) -> str | None:
    if not isinstance(image, dict) or not isinstance(image.get("id"), int | str):
        return 'it has no "id"'
    for key in ("height", "width"):
        if type(image.get(key)) is not int or image[key] < 1:
            return f'"{key}" of image {image["id"]} is {image.get(key)!r}, expected pixels'
    return name_fault("file_name", image.get("file_name"))


def _annotation_fault(entry: Any) -> str | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("image_id"), int | str):
        return 'it has no "image_id"'
    if not isinstance(entry.get("segments_info"), list):
        return (
            f'no list "segments_info" for image {entry["image_id"]}; is this a file for detection?'
        )
    return name_fault("file_name", entry.get("file_name"))


def _segment_faults(segments: list[Any], known: set[int]) -> Iterator[str]:
    ids: set[int] = set()
    for segment in segments:
        if not isinstance(segment, dict) or type(segment.get("id")) is not int:
            yield f"a segment without a whole number as id: {segment!r}"
            continue
        number = segment["id"]
        if not 0 < number < 2**24:
            yield f"segment {number}: ids lie between 1 and 16777215 (0 is void)"
        if number in ids:
            yield f"segment {number}: its id is used twice"
        ids.add(number)
        if type(segment.get("category_id")) is not int or segment["category_id"] not in known:
            yield f"segment {number}: unknown category {segment.get('category_id')!r}; {_RELEASE}"
        if segment.get("iscrowd", 0) not in (0, 1):
            yield f'segment {number}: "iscrowd" is {segment["iscrowd"]!r}, expected 0 or 1'
        area = segment.get("area")
        if isinstance(area, bool) or not isinstance(area, int | float) or not 0 < area < 2**48:
            yield f'segment {number}: "area" is {area!r}, expected a number of pixels'


def _is_category(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and type(entry.get("id")) is int
        and isinstance(entry.get("name"), str)
        and entry.get("isthing") in (0, 1)
    )


def _is_color(color: Any) -> bool:
    return (
        isinstance(color, list | tuple)
        and len(color) == 3
        and all(type(value) is int and 0 <= value < 256 for value in color)
    )


def _color(position: int) -> tuple[int, int, int]:
    """Steps of three different lengths around the channel: no two of the first 256 are equal."""
    return (60 + position * 97) % 256, (120 + position * 57) % 256, (200 + position * 151) % 256
