"""What can be wrong with a panoptic set: its JSON, its images, its PNGs, and how they fit."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from slotseg.classes import Category, class_set
from slotseg.data.check_image import ClassCounts, Fault, ImageReport
from slotseg.data.datasets.coco_panoptic import (
    categories_of,
    file_name_of,
    find_faults,
    read_json,
)
from slotseg.data.datasets.root import resolve
from slotseg.data.id_maps import count_ids
from slotseg.data.images import read_image
from slotseg.errors import ConfigError, DatasetError
from slotseg.panoptic_png import read_id_map

# Colours in messages help nobody; the checks need no colours.
_NO_COLOR = (0, 0, 0)


def panoptic_entries(name: str) -> tuple[list[dict[str, Any]], list[Fault]]:
    """The data set dicts of a set, and what is wrong with its JSON.

    Where the set cannot be loaded, the dicts hold whatever can still be looked at.
    """
    try:
        return DatasetCatalog.get(name), []
    except DatasetError as error:
        refusal = Fault.from_message(error)
    path = MetadataCatalog.get(name).get("panoptic_json")
    if path is None:
        return [], [refusal]
    path = resolve(path)
    try:
        content = read_json(path)
        categories = _categories(name, content, path)
    except DatasetError:
        return [], [refusal]
    faults = [Fault(path, what) for what in find_faults(content, categories)]
    if not faults:  # a folder is missing
        return [], [refusal]
    return _lenient_entries(name, content, categories), faults


def panoptic_classes(name: str) -> list[tuple[str, str]]:
    """(name, "thing" or "stuff") of every class; empty where nobody could say."""
    try:
        classes = class_set(name)
    except (ConfigError, DatasetError):  # the latter where only the damaged file names them
        return []
    kinds = ["thing" if is_thing else "stuff" for is_thing in classes.is_thing]
    return list(zip(classes.names, kinds, strict=True))


def examine_panoptic(entry: dict[str, Any], classes: Sequence[tuple[str, str]]) -> ImageReport:
    """Open one image and its PNG, and compare them with each other and with the list.

    Args:
        entry: a data set dict as :func:`slotseg.data.datasets.coco_panoptic.load_coco_panoptic`
            makes it; keys that are missing are not checked.
        classes: (name, kind) of every class, as :func:`panoptic_classes` has them.
    """
    report = ImageReport(ClassCounts.zeros(len(classes)))
    size = _examine_image(entry, report)
    path = entry.get("pan_seg_file_name")
    if path is None:
        return report
    try:
        ids = read_id_map(path)
    except DatasetError as error:
        report.faults.append(Fault.from_message(error, path))
        return report
    if size is not None and ids.shape != size:
        what = f"{ids.shape[0]}x{ids.shape[1]} (height x width), but its image is"
        report.faults.append(Fault(path, f"{what} {size[0]}x{size[1]}"))
    found, areas = count_ids(ids)
    area_of = dict(zip(found.tolist(), areas.tolist(), strict=True))
    report.void = area_of.pop(0, 0)
    segments = entry.get("segments_info", [])
    _examine_ids(path, segments, area_of, report)
    known = [s for s in segments if s.get("category_id", -1) in range(len(classes))]
    for segment in segments:
        # A category that the JSON does not know is a fault of the JSON.
        if "category_id" in segment and segment not in known:
            what = f"segment id {segment['id']} has class {segment['category_id']}, but the set's"
            report.faults.append(Fault(path, f"{what} Metadata lists {len(classes)} classes"))
    _count(known, area_of, report.counts)
    _examine_stuff(path, known, classes, report)
    return report


def unlisted_files(name: str, entries: list[dict[str, Any]]) -> list[Fault]:
    """A warning for each PNG in the set's folder that no image has."""
    root = MetadataCatalog.get(name).get("panoptic_root")
    if root is None or "://" in root or not entries:
        return []
    root = resolve(root)
    listed = {os.path.normpath(e["pan_seg_file_name"]) for e in entries if "pan_seg_file_name" in e}
    faults = []
    for folder, _, files in sorted(os.walk(root)):
        for file in sorted(files):
            path = os.path.join(folder, file)
            if file.endswith(".png") and os.path.normpath(path) not in listed:
                faults.append(Fault(path, "a PNG that the JSON does not list; is it cut?", False))
    return faults


def _examine_image(entry: dict[str, Any], report: ImageReport) -> tuple[int, int] | None:
    """Size of the image, or None where it cannot be read."""
    path = entry["file_name"]
    try:
        height, width = read_image(path).shape[:2]
    except DatasetError as error:
        report.faults.append(Fault.from_message(error, path))
        return None
    listed = (entry.get("height", height), entry.get("width", width))
    if listed != (height, width):
        what = f"{height}x{width} (height x width), but listed as {listed[0]}x{listed[1]}"
        report.faults.append(Fault(path, what))
    return height, width


def _examine_ids(
    path: str, segments: list[dict[str, Any]], area_of: dict[int, int], report: ImageReport
) -> None:
    """Ids of the PNG against ids of the list, and their areas."""
    listed = {segment["id"] for segment in segments}
    for number, area in area_of.items():
        if number not in listed:
            what = f"segment id {number} ({area} pixels) is not among the listed segments"
            report.faults.append(Fault(path, what))
    for segment in segments:
        area = area_of.get(segment["id"])
        if area is None:
            what = f"segment id {segment['id']} is listed, but no pixel has it"
            report.faults.append(Fault(path, what))
        elif segment.get("area", area) != area:
            what = f"segment id {segment['id']} has {area} pixels, but is listed with"
            report.faults.append(Fault(path, f"{what} {segment['area']}", False))
    if not segments and not area_of:
        report.faults.append(Fault(path, "nothing is labelled, every pixel is void", False))


def _examine_stuff(
    path: str,
    segments: list[dict[str, Any]],
    classes: Sequence[tuple[str, str]],
    report: ImageReport,
) -> None:
    """A stuff class has one segment an image, and a crowd is one of things."""
    stuff = [segment for segment in segments if not segment["isthing"]]
    for number, times in Counter(segment["category_id"] for segment in stuff).items():
        if times > 1:
            ids = ", ".join(str(s["id"]) for s in stuff if s["category_id"] == number)
            what = f"stuff class {classes[number][0]} has {times} segments (ids {ids})"
            report.faults.append(Fault(path, f"{what}; it should be one", False))
    for segment in stuff:
        if segment["iscrowd"]:
            what = f"segment id {segment['id']} is stuff and marked as a crowd"
            report.faults.append(Fault(path, what, False))


def _count(segments: list[dict[str, Any]], area_of: dict[int, int], counts: ClassCounts) -> None:
    seen = set()
    for segment in segments:
        number = segment["category_id"]
        if segment["id"] not in area_of:
            continue
        counts.segments[number] += 1
        counts.crowds[number] += bool(segment["iscrowd"])
        counts.pixels[number] += area_of[segment["id"]]
        seen.add(number)
    counts.images[np.array(sorted(seen), np.intp)] += 1


def _categories(name: str, content: dict[str, Any], path: str) -> list[Category]:
    """The classes that the set was registered with, or else those of its file."""
    try:
        classes = class_set(name)
    except ConfigError:
        return categories_of(content, path)
    columns = zip(classes.dataset_ids, classes.names, classes.is_thing, strict=True)
    return [Category(*column, _NO_COLOR) for column in columns]


def _lenient_entries(
    name: str, content: dict[str, Any], categories: list[Category]
) -> list[dict[str, Any]]:
    """Data set dicts of a JSON file with faults: what makes no sense is left out."""
    metadata = MetadataCatalog.get(name)
    image_root, png_root = resolve(metadata.image_root), resolve(metadata.panoptic_root)
    image_name = metadata.get("image_name", file_name_of)
    numbers = {category.id: number for number, category in enumerate(categories)}
    annotations = {
        str(entry["image_id"]): entry
        for entry in content["annotations"]
        if isinstance(entry, dict) and "image_id" in entry and _is_name(entry.get("file_name"))
    }
    entries = []
    for image in content["images"]:
        if not isinstance(image, dict) or "id" not in image or not _is_name(image.get("file_name")):
            continue
        entry: dict[str, Any] = {"file_name": os.path.join(image_root, image_name(image))}
        entry |= {key: image[key] for key in ("height", "width") if type(image.get(key)) is int}
        annotation = annotations.get(str(image["id"]))
        if annotation is not None:
            entry["pan_seg_file_name"] = os.path.join(png_root, annotation["file_name"])
            listed = annotation.get("segments_info")
            entry["segments_info"] = [
                _lenient_segment(segment, numbers, categories)
                for segment in (listed if isinstance(listed, list) else [])
                if isinstance(segment, dict) and type(segment.get("id")) is int
            ]
        entries.append(entry)
    return entries


def _lenient_segment(
    segment: dict[str, Any], numbers: dict[int, int], categories: list[Category]
) -> dict[str, Any]:
    kept = {"id": segment["id"], "iscrowd": segment.get("iscrowd") == 1}
    category_id = segment.get("category_id")
    if type(category_id) is int and category_id in numbers:
        number = numbers[category_id]
        kept |= {"category_id": number, "isthing": categories[number].is_thing}
    area = segment.get("area")
    # What is no sensible number is a fault of the JSON, and reported as one.
    if isinstance(area, int | float) and area > 0:
        kept["area"] = area
    return kept


def _is_name(name: Any) -> bool:
    inside = isinstance(name, str) and bool(name) and "://" not in name
    return inside and not name.startswith("/") and ".." not in name.split("/")
