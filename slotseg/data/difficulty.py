"""How difficult an image is to learn, from what its data set lists about it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from detectron2.config import CfgNode

from slotseg.data.sampling import random_keys
from slotseg.errors import ConfigError

LOSS = "loss"
"""The difficulty that only a model knows: see :mod:`slotseg.engine.image_losses`."""
RANDOM = "random"
"""The difficulty that is none."""


class ImageDifficulty(NamedTuple):
    """An image and how difficult it is, in the unit of whatever measured it; more is harder."""

    file_name: str
    difficulty: float


def num_segments(entry: dict[str, Any]) -> int | None:
    """Segments that a model has to tell apart: of panoptic sets all but crowds, in scenes the
    objects and the background. None: the set does not list them.
    """
    if "segments_info" in entry:
        return sum(not segment["iscrowd"] for segment in entry["segments_info"])
    return entry["num_objects"] + 1 if "num_objects" in entry else None


def smallness(entry: dict[str, Any]) -> float | None:
    """How small the smallest thing is: minus the binary logarithm of its share of the image.

    A thing on every 1024th pixel has 10, one of half the size 11. An image without things is the
    easiest, with 0. Crowds and, in scenes, objects that are hidden altogether do not count.
    None: the set lists no areas.
    """
    if "segments_info" in entry:
        things = [s for s in entry["segments_info"] if s["isthing"] and not s["iscrowd"]]
        areas = [segment.get("area") for segment in things]
    elif "objects" in entry:
        areas = [thing.get("visible_pixels") for thing in entry["objects"]]
    else:
        return None
    if None in areas or "height" not in entry or "width" not in entry:
        return None
    smallest = min((area for area in areas if area > 0), default=None)
    return 0.0 if smallest is None else math.log2(entry["height"] * entry["width"] / smallest)


def class_rarity(dicts: Sequence[dict[str, Any]]) -> list[float | None]:
    """How unlikely the classes of each image are: the sum, over the classes in it, of minus the
    logarithm of the share of these images that have the class.

    It is the rarity of Platanios et al. (*Competence-based Curriculum Learning*, 2019, section
    3.2) with classes for words: a class that all images have adds nothing, each rare one much.
    Crowds do not count. None: the set lists no classes.
    """
    classes = [_classes(entry) for entry in dicts]
    if None in classes:
        return [None if found is None else 0.0 for found in classes]
    images_with = Counter(number for found in classes for number in found)
    return [
        # In the order of the numbers, as sums of floats depend on it.
        math.fsum(math.log(len(dicts) / images_with[number]) for number in sorted(found))
        for found in classes
    ]


MEASURES: dict[str, Callable[[Sequence[dict[str, Any]]], list[float | None]]] = {
    "segments": lambda dicts: [num_segments(entry) for entry in dicts],
    "smallest_object": lambda dicts: [smallness(entry) for entry in dicts],
    "class_rarity": class_rarity,
}
"""Difficulties that are read off data set dicts; a project may add its own."""


def image_difficulties(dicts: Sequence[dict[str, Any]], measure: str, seed: int = 0) -> np.ndarray:
    """The difficulty of every image, more is harder.

    Args:
        dicts: data set dicts; images are not opened.
        measure: one of :data:`MEASURES`, or "random".
        seed: of "random".

    Returns:
        float64 ``[N]``.

    Raises:
        ConfigError: an unknown measure, one that takes a model ("loss"), or a set that does not
            list what it needs.
    """
    if measure == RANDOM:
        return random_keys(len(dicts), seed)
    check_measure(measure)
    if measure == LOSS:
        raise ConfigError(
            "CURRICULUM.DIFFICULTY 'loss' takes a model, see slotseg.engine.image_losses; of what "
            f"data sets list choose {', '.join(MEASURES)}"
        )
    values = MEASURES[measure](dicts)
    unknown = next((i for i, value in enumerate(values) if value is None), None)
    if unknown is not None:
        raise ConfigError(
            f"CURRICULUM.DIFFICULTY is {measure!r}, but the data set does not list what it needs "
            f"of {dicts[unknown]['file_name']}; choose another one, 'loss' works with every set"
        )
    return np.array(values, np.float64)


def check_measure(measure: str) -> None:
    """Raise a ConfigError where nobody knows this ``CURRICULUM.DIFFICULTY``."""
    known = (*MEASURES, LOSS, RANDOM)
    if measure not in known:
        raise ConfigError(
            f"CURRICULUM.DIFFICULTY: {measure!r} is unknown; choose from {', '.join(known)}, or "
            "leave it empty for no curriculum"
        )


def check_labels_are_read(cfg: CfgNode) -> None:
    """Raise a ConfigError where difficulty is read off labels that the training does not have."""
    measure = cfg.CURRICULUM.DIFFICULTY
    if measure in MEASURES and not cfg.DATASETS.TRAIN_LABELS:
        raise ConfigError(
            f"CURRICULUM.DIFFICULTY {measure!r} is read off labels, but DATASETS.TRAIN_LABELS is "
            "False; choose 'loss', or no curriculum"
        )


def hardest(
    dicts: Sequence[dict[str, Any]], difficulties: np.ndarray, count: int | None = None
) -> list[ImageDifficulty]:
    """The hardest images, the hardest first.

    Args:
        dicts: data set dicts.
        difficulties: ``[N]``, of :func:`image_difficulties` or measured by a model.
        count: how many; None: all.
    """
    order = np.argsort(-np.asarray(difficulties), kind="stable")[:count]
    return [ImageDifficulty(dicts[i]["file_name"], float(difficulties[i])) for i in order]


def _classes(entry: dict[str, Any]) -> set[int] | None:
    if "segments_info" not in entry:
        return None
    return {s["category_id"] for s in entry["segments_info"] if not s["iscrowd"]}
