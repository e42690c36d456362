"""Which images of the training set are labelled: a share, a number, or those of a list.

The rule for shares and numbers: every image has the key SHA-256("<SPLIT_SEED>/<image_id>"); the k
images with the smallest keys are labelled. So the choice does not depend on the order or the place
of files, the images of a smaller share are among those of a larger one, and an image that is added
to a set moves at most one other out.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils.logger import log_first_n
from tabulate import tabulate

from slotseg.classes import ClassSet, class_set
from slotseg.data.image_lists import read_list
from slotseg.data.mappers import check_same_classes
from slotseg.data.selection import select_images
from slotseg.errors import ConfigError

_KEYS = ("LABELED_FRACTION", "LABELED_IMAGES", "LABELED_LIST")


@dataclass(frozen=True)
class Split:
    """The training images in two parts, each in the order of the sets.

    Attributes:
        labeled: data set dicts of the images whose labels are used.
        rest: of the others; their labels are not to be read.
    """

    labeled: list[dict[str, Any]]
    rest: list[dict[str, Any]]


def split_training_images(cfg: CfgNode) -> Split:
    """Split the images of ``DATASETS.TRAIN`` as the config says; by default all are labelled.

    Classes that lose all their labels are warned of, once a process.

    Args:
        cfg: ``DATASETS.{TRAIN, MAX_OBJECTS, MAX_IMAGES}``, which choose images first, and
            ``DATASETS.{LABELED_FRACTION, LABELED_IMAGES, LABELED_LIST, SPLIT_SEED}``.

    Raises:
        ConfigError: several of the three, a value that cannot work, or sets of different classes.
        DatasetError: a set is missing, damaged or empty; the list is, or names no such image.
    """
    if not cfg.DATASETS.TRAIN:
        raise ConfigError(
            "DATASETS.TRAIN is empty; name one or more registered data sets, for instance "
            "'(\"clevr_generated_train\",)'"
        )
    check_split(cfg)
    dicts = select_images(cfg, cfg.DATASETS.TRAIN)
    node = cfg.DATASETS
    if node.LABELED_LIST:
        chosen = set(read_list(node.LABELED_LIST, dicts))
    elif node.LABELED_IMAGES or node.LABELED_FRACTION < 1:
        count = node.LABELED_IMAGES or max(round(node.LABELED_FRACTION * len(dicts)), 1)
        if count > len(dicts):
            raise ConfigError(
                f"DATASETS.LABELED_IMAGES is {count}, but the training set has {len(dicts)} images"
            )
        chosen = set(choose_images(dicts, count, node.SPLIT_SEED))
    else:
        return Split(dicts, [])
    split = Split(
        [entry for index, entry in enumerate(dicts) if index in chosen],
        [entry for index, entry in enumerate(dicts) if index not in chosen],
    )
    _report(split, cfg)
    return split


def check_split(cfg: CfgNode) -> None:
    """Raise a ConfigError unless at most one of the three ways to split is asked for, rightly."""
    node = cfg.DATASETS
    if not 0 < node.LABELED_FRACTION <= 1:
        raise ConfigError(
            f"DATASETS.LABELED_FRACTION is {node.LABELED_FRACTION}, which leaves no labelled "
            "image or more than all; expected a share above 0 and at most 1"
        )
    if node.LABELED_IMAGES < 0:
        raise ConfigError(
            f"DATASETS.LABELED_IMAGES is {node.LABELED_IMAGES}, expected a number of images, or 0 "
            "where it is not given"
        )
    given = (node.LABELED_FRACTION < 1, node.LABELED_IMAGES > 0, bool(node.LABELED_LIST))
    if sum(given) > 1:
        keys = ", ".join(
            f"DATASETS.{k}" for k, is_given in zip(_KEYS, given, strict=True) if is_given
        )
        raise ConfigError(f"{keys}: each of them chooses the labelled images; set only one")


def choose_images(dicts: Sequence[dict[str, Any]], count: int, seed: int) -> list[int]:
    """Indices of the ``count`` images with the smallest keys, the smallest first.

    Args:
        dicts: data set dicts with ``image_id``, and ``file_name``, which decides between images
            of several sets that share their id.
        count: at most their number.
        seed: any whole number.
    """

    def key(index: int) -> tuple[bytes, str]:
        entry = dicts[index]
        text = f"{seed}/{entry['image_id']}"
        return hashlib.sha256(text.encode()).digest(), os.path.basename(entry["file_name"])

    return sorted(range(len(dicts)), key=key)[:count]


def missing_classes(split: Split) -> list[int]:
    """Contiguous classes that have segments in the rest but none among the labelled images.

    Crowds do not count. Scenes have no classes: the list is empty.
    """
    return sorted(_count_images(split.rest).keys() - _count_images(split.labeled).keys())


def format_split(split: Split, classes: ClassSet) -> str:
    """A table as text: of every class, how many images with it there are and have labels."""
    labeled, rest = _count_images(split.labeled), _count_images(split.rest)
    rows = [
        [name, "thing" if thing else "stuff", labeled[number], labeled[number] + rest[number]]
        for number, (name, thing) in enumerate(zip(classes.names, classes.is_thing, strict=True))
    ]
    rows.append(["(any)", "", len(split.labeled), len(split.labeled) + len(split.rest)])
    return tabulate(rows, ["class", "kind", "labelled images", "images"], tablefmt="simple")


def _count_images(dicts: Iterable[dict[str, Any]]) -> Counter[int]:
    """How many images have a segment of each class that has one, crowds left out."""
    return Counter(
        number
        for entry in dicts
        for number in {
            segment["category_id"]
            for segment in entry.get("segments_info", ())
            if not segment["iscrowd"]
        }
    )


def _report(split: Split, cfg: CfgNode) -> None:
    logger, total = __name__, len(split.labeled) + len(split.rest)
    names = ", ".join(cfg.DATASETS.TRAIN)
    told = f"{names}: {len(split.labeled)} of {total} images are labelled"
    log_first_n(logging.INFO, told, n=1, name=logger, key="message")
    if not (missing := missing_classes(split)):
        return
    # Numbers of one set would be names of another.
    check_same_classes(cfg.DATASETS.TRAIN)
    classes = class_set(cfg.DATASETS.TRAIN[0]).names
    log_first_n(
        logging.WARNING,
        f"{told}, and none of them shows {', '.join(classes[number] for number in missing)}: "
        "nothing will be learnt about what has no label; label more images, or choose others with "
        "DATASETS.SPLIT_SEED or LABELED_LIST",
        n=1,
        name=logger,
        key="message",
    )
