"""Which images of registered sets are used, before they are split and loaded."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from slotseg.errors import ConfigError, DatasetError


def select_images(cfg: CfgNode, names: Sequence[str]) -> list[dict[str, Any]]:
    """The dicts of these sets, without those of more than ``DATASETS.MAX_OBJECTS`` objects; of each
    set the first ``DATASETS.MAX_IMAGES``.

    Raises:
        ConfigError: an unknown set, or a limit that cannot work.
        DatasetError: a set is missing, damaged or empty.
    """
    limit = cfg.DATASETS.MAX_OBJECTS
    if limit < 0:
        raise ConfigError(f"DATASETS.MAX_OBJECTS is {limit}, it must be 0 (keep all) or more")
    kept: list[dict[str, Any]] = []
    for name in names:
        check_registered(name)
        dicts = DatasetCatalog.get(name)
        if limit:
            dicts = _of_few_objects(dicts, limit, name)
        if not dicts:
            raise DatasetError(
                f"data set {name}: no images"
                + (f" with at most {limit} objects (DATASETS.MAX_OBJECTS)" if limit else "")
                + "; check how it was made"
            )
        kept += first_images(cfg, dicts)
    return kept


def first_images(cfg: CfgNode, dicts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of one set the first ``DATASETS.MAX_IMAGES``.

    Raises:
        ConfigError: a negative number.
    """
    first = cfg.DATASETS.MAX_IMAGES
    if first < 0:
        raise ConfigError(f"DATASETS.MAX_IMAGES is {first}, it must be 0 (keep all) or more")
    return dicts[:first] if first else dicts


def check_registered(name: str) -> None:
    """Raise a ConfigError, with the nearest names, unless ``name`` is a registered data set."""
    if name in DatasetCatalog:
        return
    near = difflib.get_close_matches(name, DatasetCatalog.list(), n=3, cutoff=0.6)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise ConfigError(f"DATASETS: no data set {name!r} is registered{hint}")


def _num_objects(entry: dict[str, Any]) -> int | None:
    """Objects of an image; in panoptic sets its things, crowds left out. None: nobody says."""
    if "segments_info" in entry:
        return sum(s["isthing"] and not s["iscrowd"] for s in entry["segments_info"])
    return entry.get("num_objects")


def _of_few_objects(dicts: list[dict[str, Any]], limit: int, name: str) -> list[dict[str, Any]]:
    unknown = next((entry for entry in dicts if _num_objects(entry) is None), None)
    if unknown is not None:
        raise ConfigError(
            f"DATASETS.MAX_OBJECTS is {limit}, but {name} does not say how many objects "
            f"{unknown['file_name']} has; set it to 0"
        )
    return [entry for entry in dicts if _num_objects(entry) <= limit]
