"""Where data sets lie: under ``$DETECTRON2_DATASETS``, looked up when a set is used."""

from __future__ import annotations

import os


def datasets_root() -> str:
    """The folder that all data sets lie under, as Detectron2 has it."""
    return os.getenv("DETECTRON2_DATASETS", "datasets")


def resolve(path: str) -> str:
    """A path as it was registered, to open: relative ones lie under :func:`datasets_root`."""
    return path if os.path.isabs(path) or "://" in path else os.path.join(datasets_root(), path)


def shown(path: str) -> str:
    """A path for messages, which must not depend on the folder that somebody stands in."""
    return path if "://" in path else os.path.abspath(path)


def root_hint() -> str:
    """Says in messages what ``$DETECTRON2_DATASETS`` is."""
    root = os.getenv("DETECTRON2_DATASETS")
    return f"(DETECTRON2_DATASETS is {root if root else 'not set'})"
