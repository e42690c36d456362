"""The images that a training takes without labels, and a record of those that it cannot read."""

from __future__ import annotations

import logging
import os
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from slotseg.data.datasets.image_folder import load_image_folder
from slotseg.data.datasets.root import resolve
from slotseg.data.selection import check_registered, first_images
from slotseg.data.splits import Split
from slotseg.errors import ConfigError, DatasetError
from slotseg.files import write_atomically

UNREADABLE_FILE = "unreadable_images.txt"
"""In ``OUTPUT_DIR``: what is wrong with each file that was left out, one a line."""
REPLACEABLE = "replaceable"
"""Key of a data set dict: whether another image may stand in if this one cannot be read."""


def unlabeled_images(cfg: CfgNode, split: Split, record: UnreadableFiles) -> list[dict[str, Any]]:
    """Data set dicts of all unlabelled images: the rest of the training sets, with
    ``SEMI.INCLUDE_LABELED`` the labelled ones too, ``DATASETS.UNLABELED`` and
    ``DATASETS.UNLABELED_FOLDERS``.

    Args:
        cfg: whole config. ``DATASETS.MAX_IMAGES`` holds for registered sets.
        split: of the training sets.
        record: is told which files of folders cannot be read.

    Returns:
        Dicts of ``file_name``, ``image_id`` and :data:`REPLACEABLE`, True for files of folders.

    Raises:
        ConfigError: an unknown set, or no image at all.
        DatasetError: a set or a folder is missing or empty, or no file of a folder can be read.
    """
    registered = [*split.rest, *(split.labeled if cfg.SEMI.INCLUDE_LABELED else [])]
    folders = [str(folder) for folder in cfg.DATASETS.UNLABELED_FOLDERS]
    for name in cfg.DATASETS.UNLABELED:
        check_registered(name)
        root = _folder_of_images_alone(name)
        if root is None:
            registered += first_images(cfg, DatasetCatalog.get(name))
        else:
            folders.append(root)
    found = [_image(entry, False) for entry in registered]
    for folder in folders:
        readable, faults = load_image_folder(folder)
        total = len(readable) + len(faults)
        record.add(
            faults, f"{folder}: {len(faults)} of {total} images cannot be read and are left out"
        )
        if not readable:
            raise DatasetError(
                f"{folder}: none of its {len(faults)} images can be read; the first: {faults[0]}"
            )
        found += [_image(entry, True) for entry in readable]
    if not found:
        raise ConfigError(
            f"SEMI.IMS_PER_BATCH is {cfg.SEMI.IMS_PER_BATCH}, but there is no unlabelled image: "
            "label fewer (DATASETS.LABELED_FRACTION, LABELED_IMAGES, LABELED_LIST), or name some "
            "in DATASETS.UNLABELED or UNLABELED_FOLDERS"
        )
    logging.getLogger(__name__).info(
        f"{len(found)} unlabelled images, {len(split.rest)} of them the rest of the training set"
    )
    return found


class UnreadableFiles:
    """Logs files that are left out, and keeps a list of them in ``OUTPUT_DIR``.

    With several processes each keeps a list of its own; those of a run that is resumed stay on it.

    Args:
        folder: where the list goes; empty: nowhere.
    """

    def __init__(self, folder: str) -> None:
        rank = comm.get_rank()
        name = UNREADABLE_FILE if rank == 0 else f"{UNREADABLE_FILE}.rank{rank}"
        self._path = os.path.join(folder, name) if folder else ""
        self._faults: dict[str, None] | None = None

    def add(self, faults: list[DatasetError], told: str) -> None:
        """Take in ``faults``, whose messages begin with the file; those known already are quiet.

        Args:
            faults: may be empty.
            told: beginning of the warning.
        """
        if self._faults is None:
            self._faults = dict.fromkeys(self._read())
        new = [line for fault in faults if (line := str(fault)) not in self._faults]
        if not new:
            return
        self._faults.update(dict.fromkeys(new))
        listed = f"; all of them are in {self._path}" if self._path else ""
        logging.getLogger(__name__).warning(f"{told}, for instance {new[0]}{listed}")
        if self._path:
            write_atomically(self._path, "".join(f"{line}\n" for line in self._faults))

    def _read(self) -> list[str]:
        if not self._path or not PathManager.isfile(self._path):
            return []
        with PathManager.open(self._path, "r", encoding="utf-8") as file:
            return file.read().splitlines()


def _image(entry: dict[str, Any], replaceable: bool) -> dict[str, Any]:
    """Nothing but the image: labels cannot be read where nobody knows their files."""
    return {
        "file_name": entry["file_name"],
        "image_id": entry["image_id"],
        REPLACEABLE: replaceable,
    }


def _folder_of_images_alone(name: str) -> str | None:
    """Where a registered panoptic set has its images, if they are there but its annotations are
    not."""
    metadata = MetadataCatalog.get(name)
    annotations, images = metadata.get("panoptic_json"), metadata.get("image_root")
    if not annotations or not images or PathManager.isfile(resolve(annotations)):
        return None
    return resolve(images) if PathManager.isdir(resolve(images)) else None
