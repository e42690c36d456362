"""Panoptic quality of predictions in files, from any model: COCO panoptic on both sides."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from detectron2.utils.file_io import PathManager
from tqdm import tqdm

from slotseg.classes import ClassSet
from slotseg.errors import ConfigError, DatasetError
from slotseg.evaluation.panoptic_quality import PanopticCounts, SegmentMap, count_image
from slotseg.evaluation.panoptic_report import PanopticReport
from slotseg.files import name_fault
from slotseg.panoptic_png import read_id_map

_EXAMPLES = 3


def evaluate_files(
    gt_json: str,
    gt_dir: str,
    pred_json: str,
    pred_dir: str,
    *,
    allow_subset: bool = False,
    workers: int = 1,
) -> PanopticReport:
    """Score predicted PNGs against true ones.

    Args:
        gt_json: the truth, with ``annotations`` and ``categories``.
        gt_dir: folder of its PNGs.
        pred_json: the prediction, with ``annotations`` (``categories`` are not read).
        pred_dir: folder of its PNGs.
        allow_subset: score the images that both sides have; otherwise both must have the same.
        workers: threads. Decoding and counting release Python's lock. The result is the same to
            the bit for any number.

    Returns:
        The scores, classes in the order of the truth's ``categories``.

    Raises:
        DatasetError: a missing or damaged file, an image without a prediction or the reverse, an
            image listed twice, or whatever :func:`count_image` refuses.
        ConfigError: no workers.
    """
    if workers < 1:
        raise ConfigError(f"workers: {workers} threads, expected at least 1")
    content = _read_json(gt_json, ("annotations", "categories"))
    classes = _classes(gt_json, content["categories"])
    truth = _by_image(gt_json, content["annotations"])
    prediction = _by_image(pred_json, _read_json(pred_json, ("annotations",))["annotations"])
    images = [image_id for image_id in truth if image_id in prediction]
    if not allow_subset:
        _check_same_images(gt_json, truth, pred_json, prediction)
    if not images:
        raise DatasetError(f"{pred_json}: no image of {gt_json} is in it; are the ids the same?")

    categories = {number: index for index, number in enumerate(classes.dataset_ids)}

    def count(image_id: str) -> PanopticCounts:
        true = _segment_map(gt_dir, truth[image_id])
        return count_image(true, _segment_map(pred_dir, prediction[image_id]), categories)

    counts = PanopticCounts.zeros(len(classes))
    with ThreadPoolExecutor(workers) as executor:
        try:
            done = executor.map(count, images)
            for image_counts in tqdm(
                done, total=len(images), desc="scoring", unit="image", disable=None
            ):
                counts += image_counts
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    return PanopticReport.from_counts(classes, counts, len(truth))


def _segment_map(folder: str, annotation: Mapping[str, Any]) -> SegmentMap:
    path = os.path.join(folder, annotation["file_name"])
    return SegmentMap(read_id_map(path), annotation["segments_info"], path)


def _read_json(path: str, lists: tuple[str, ...]) -> dict[str, Any]:
    try:
        with PathManager.open(path, "rb") as file:
            content = json.loads(file.read())
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be read ({error.strerror or error}); check the path"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"{path}: no JSON, or cut short ({error}); make or download it again"
        ) from error
    for name in lists:
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise DatasetError(f'{path}: has no list "{name}"; expected COCO panoptic format')
    return content


def _by_image(path: str, annotations: list[Any]) -> dict[str, dict[str, Any]]:
    """Annotations by image id; ids 139 and "139" are the same."""
    found: dict[str, dict[str, Any]] = {}
    for index, annotation in enumerate(annotations):
        if (
            not isinstance(annotation, dict)
            or not isinstance(annotation.get("image_id"), int | str)
            or not isinstance(annotation.get("segments_info"), list)
            or not all(isinstance(segment, dict) for segment in annotation["segments_info"])
        ):
            raise DatasetError(
                f"{path}: annotation {index} is not one of COCO panoptic format; expected "
                '"image_id", "file_name" and "segments_info"'
            )
        if fault := name_fault("file_name", annotation.get("file_name")):
            raise DatasetError(f"{path}: annotation {index}: {fault}")
        image_id = str(annotation["image_id"])
        if image_id in found:
            raise DatasetError(f"{path}: image {image_id} has two annotations; remove one")
        found[image_id] = annotation
    return found


def _classes(path: str, categories: list[Any]) -> ClassSet:
    for index, category in enumerate(categories):
        if (
            not isinstance(category, dict)
            or not isinstance(category.get("id"), int)
            or not isinstance(category.get("name"), str)
            or category.get("isthing") not in (0, 1)
        ):
            raise DatasetError(
                f'{path}: category {index} is {category!r}, expected "id", "name" and "isthing" '
                "(0 or 1)"
            )
    classes = ClassSet(
        names=tuple(category["name"] for category in categories),
        is_thing=tuple(bool(category["isthing"]) for category in categories),
        dataset_ids=tuple(category["id"] for category in categories),
    )
    for what, values in (("id", classes.dataset_ids), ("name", classes.names)):
        if len(set(values)) < len(values):
            raise DatasetError(f"{path}: two categories have the same {what}; rename one")
    if not categories:
        raise DatasetError(f"{path}: lists no categories, so nothing can be scored")
    return classes


def _check_same_images(
    gt_json: str, truth: Mapping[str, Any], pred_json: str, prediction: Mapping[str, Any]
) -> None:
    without = [image_id for image_id in truth if image_id not in prediction]
    unknown = [image_id for image_id in prediction if image_id not in truth]
    for what, images in (("no prediction for", without), ("predictions for unknown", unknown)):
        if images:
            some = ", ".join(images[:_EXAMPLES]) + (", ..." if len(images) > _EXAMPLES else "")
            raise DatasetError(
                f"{pred_json}: {what} {len(images)} images ({some}), compared with {gt_json}; "
                "--allow-subset scores those that both have"
            )
