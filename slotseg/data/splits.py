"""Which images of the training set are labelled: a share, a number, or those of a list.

The rule for shares and numbers: every image has the key SHA-256("<SPLIT_SEED>/<image_id>"); the k
images with the smallest keys are labelled. So the choice does not depend on the order or the place
of files, the images of a smaller share are among those of a larger one, and an image that is added
to a set moves at most one other out.
"""

from __future__ import annotations

import difflib
import hashlib
import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import log_first_n

from slotseg.classes import class_set
from slotseg.data.selection import select_images
from slotseg.errors import ConfigError, DatasetError
from slotseg.files import write_atomically

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
        ConfigError: several of the three, or a value that cannot work.
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


def read_list(path: str, dicts: Sequence[dict[str, Any]]) -> list[int]:
    """Indices of the images that a text file names, one a line, in its order.

    An image is named by its ``image_id``, or by its file: the name with or without its ending,
    after as many folders as are needed to tell it from others. Empty lines and what follows a
    ``#`` at the start of a line or after a space do not count; an image that is named twice counts
    once.

    Raises:
        DatasetError: the file cannot be read, names no image at all, one that is not in ``dicts``,
            or one of several that it might be.
    """
    lines = _read_lines(path)
    by_name = _index_names(dicts)
    found: dict[int, None] = {}
    for number, name in lines:
        candidates = by_name.get(name, ())
        if not candidates and "/" in name:
            candidates = _by_end_of_path(name, dicts, by_name)
        if len(candidates) == 1:
            found[candidates[0]] = None
            continue
        if candidates:
            files = ", ".join(dicts[index]["file_name"] for index in candidates[:2])
            raise DatasetError(
                f"{path}: line {number}: {name!r} fits {len(candidates)} images, among them "
                f"{files}; write more of its path, or its image_id"
            )
        near = difflib.get_close_matches(name, by_name, n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DatasetError(
            f"{path}: line {number}: {name!r} is neither the image_id nor the file of one of the "
            f"{len(dicts)} training images{hint}"
        )
    if not found:
        raise DatasetError(f"{path}: names no image, so none would be labelled; add one a line")
    return list(found)


def write_list(path: str, dicts: Iterable[dict[str, Any]], comment: str = "") -> None:
    """Write the ``image_id`` of every image as :func:`read_list` reads it.

    Args:
        path: of the text file.
        dicts: data set dicts.
        comment: lines to begin with.
    """
    head = [f"# {line}" for line in comment.splitlines()]
    write_atomically(path, "\n".join([*head, *(str(entry["image_id"]) for entry in dicts)]) + "\n")


def missing_classes(split: Split) -> list[int]:
    """Contiguous classes that have segments in the rest but none among the labelled images.

    Crowds do not count. Scenes have no classes: the list is empty.
    """
    return sorted(_classes(split.rest) - _classes(split.labeled))


def _classes(dicts: Iterable[dict[str, Any]]) -> set[int]:
    return {
        segment["category_id"]
        for entry in dicts
        for segment in entry.get("segments_info", ())
        if not segment["iscrowd"]
    }


def _report(split: Split, cfg: CfgNode) -> None:
    logger, total = __name__, len(split.labeled) + len(split.rest)
    names = ", ".join(cfg.DATASETS.TRAIN)
    told = f"{names}: {len(split.labeled)} of {total} images are labelled"
    log_first_n(logging.INFO, told, n=1, name=logger, key="message")
    if not (missing := missing_classes(split)):
        return
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


def _read_lines(path: str) -> list[tuple[int, str]]:
    """Line numbers from 1 and names."""
    try:
        with PathManager.open(path, "r", encoding="utf-8-sig") as file:
            content = file.read()
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be read ({error.strerror or error}); DATASETS.LABELED_LIST is a text "
            "file with one image a line"
        ) from error
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path}: is no text in UTF-8; DATASETS.LABELED_LIST is a file with one image a line"
        ) from error
    lines = (
        (number, f" {line}".split(" #")[0].strip())
        for number, line in enumerate(content.splitlines(), start=1)
    )
    return [(number, name) for number, name in lines if name]


def _index_names(dicts: Sequence[dict[str, Any]]) -> dict[str, list[int]]:
    """The images that a name without folders may mean."""
    by_name: dict[str, list[int]] = defaultdict(list)
    ids: dict[str, list[int]] = defaultdict(list)
    for index, entry in enumerate(dicts):
        ids[str(entry["image_id"])].append(index)
        base = os.path.basename(entry["file_name"])
        for name in dict.fromkeys((base, os.path.splitext(base)[0])):
            by_name[name].append(index)
    # An id means its image, whatever files are called.
    return {**by_name, **ids}


def _by_end_of_path(
    name: str, dicts: Sequence[dict[str, Any]], by_name: dict[str, list[int]]
) -> list[int]:
    """The images whose path, with or without its ending, ends with the folders and name given."""
    wanted = os.path.normpath(name)
    return [
        index
        for index in by_name.get(os.path.basename(wanted), ())
        if any(
            f"/{path}".endswith(f"/{wanted.lstrip('/')}")
            for path in (dicts[index]["file_name"], os.path.splitext(dicts[index]["file_name"])[0])
        )
    ]
