"""What can be wrong with scenes: their list, their images, their masks, and how they fit."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager

from slotseg.data.check_image import ClassCounts, Fault, ImageReport
from slotseg.data.datasets.root import resolve
from slotseg.data.images import read_image, read_mask
from slotseg.data.scene_folder import VOID, find_problems
from slotseg.errors import DatasetError

SCENE_CLASSES = [("background", "stuff"), ("object", "thing")]


def scene_entries(name: str) -> tuple[list[dict[str, Any]], list[Fault]]:
    """The data set dicts of a set, and what is wrong with its list of scenes.

    No dicts where there is something: a scene folder is written as a whole, so a list with faults
    means that it has to be made again.
    """
    try:
        return DatasetCatalog.get(name), []
    except DatasetError as error:
        refusal = Fault.from_message(error)
    folder = MetadataCatalog.get(name).get("scene_folder", "")
    path = os.path.join(resolve(folder), "scenes.json")
    try:
        with PathManager.open(path, "r", encoding="utf-8") as file:
            faults = [Fault(path, what) for what in find_problems(json.load(file))]
    except (OSError, ValueError):  # not there, or cut short: what the reader said
        faults = []
    return [], faults or [refusal]


def examine_scene(entry: dict[str, Any]) -> ImageReport:
    """Open one image and its mask, and compare them with each other and with the scene.

    Args:
        entry: a data set dict as :mod:`slotseg.data.datasets.clevr` has it.
    """
    report = ImageReport(ClassCounts.zeros(len(SCENE_CLASSES)))
    path = entry["file_name"]
    size = (entry["height"], entry["width"])
    try:
        found = read_image(path).shape[:2]
        if found != size:
            what = f"{found[0]}x{found[1]} (height x width), but listed as {size[0]}x{size[1]}"
            report.faults.append(Fault(path, what))
    except DatasetError as error:
        report.faults.append(Fault.from_message(error, path))
    path = entry.get("mask_file_name")
    if path is None:
        return report
    try:
        mask = read_mask(path)
    except DatasetError as error:
        report.faults.append(Fault.from_message(error, path))
        return report
    if mask.shape != size:
        what = f"{mask.shape[0]}x{mask.shape[1]} (height x width), but listed as"
        report.faults.append(Fault(path, f"{what} {size[0]}x{size[1]}"))
    _examine_mask(path, mask, entry["num_objects"], report)
    return report


def _examine_mask(path: str, mask: np.ndarray, num_objects: int, report: ImageReport) -> None:
    areas = np.bincount(mask.reshape(-1), minlength=256)
    report.void = int(areas[VOID])
    for number in np.flatnonzero(areas[:VOID]).tolist():
        if number > num_objects:
            what = f"it holds object {number} ({areas[number]} pixels), but the scene lists only"
            report.faults.append(Fault(path, f"{what} {num_objects} objects"))
    visible = int((areas[1 : num_objects + 1] > 0).sum())
    if num_objects and not visible:
        what = f"none of the {num_objects} objects has a pixel"
        report.faults.append(Fault(path, what, False))
    counts = report.counts
    counts.pixels += [areas[0], areas[1 : num_objects + 1].sum()]
    counts.segments += [areas[0] > 0, visible]
    counts.images += [areas[0] > 0, visible > 0]
