"""Folders of images without anything else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from detectron2.utils.file_io import PathManager

from slotseg.data.datasets.root import resolve, root_hint, shown
from slotseg.data.images import check_header
from slotseg.errors import DatasetError

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
"""Of the files that are taken for images, in small or capital letters."""
# Opening files is waiting, above all in network folders.
_THREADS = 16


def load_image_folder(folder: str) -> tuple[list[dict[str, Any]], list[DatasetError]]:
    """Data set dicts of all images below a folder, in the order of their paths.

    Subfolders are searched, those that links lead to included, but nothing whose name begins with
    a dot. Of every file the header is read, which finds empty files and those that are no images,
    though not those that are cut short.

    Args:
        folder: a path; a relative one lies under ``$DETECTRON2_DATASETS`` or, if there is none
            there, in the working directory.

    Returns:
        For every readable file a dict with ``file_name`` and ``image_id`` (its path below the
        folder); and what is wrong with the others.

    Raises:
        DatasetError: no such folder, or no image in it.
    """
    root = resolve(folder)
    if not PathManager.isdir(root) and PathManager.isdir(folder):
        root = folder
    if not PathManager.isdir(root):
        raise DatasetError(f"{shown(root)}: no such folder of images {root_hint()}")
    files = list(_image_files(root, set()))
    if not files:
        raise DatasetError(
            f"{shown(root)}: no image in it or below it; files end with {', '.join(IMAGE_ENDINGS)}"
        )
    with ThreadPoolExecutor(_THREADS) as pool:
        faults = list(pool.map(_fault, files))
    dicts = [
        {"file_name": file, "image_id": os.path.relpath(file, root)}
        for file, fault in zip(files, faults, strict=True)
        if fault is None
    ]
    return dicts, [fault for fault in faults if fault is not None]


def _fault(path: str) -> DatasetError | None:
    try:
        check_header(path)
    except DatasetError as error:
        return error
    return None


def _image_files(folder: str, visited: set[str]) -> Iterator[str]:
    """Paths below ``folder``, sorted in every folder."""
    real = os.path.realpath(folder)
    if real in visited:  # a link to a folder above
        return
    visited.add(real)
    for name in sorted(PathManager.ls(folder)):
        path = os.path.join(folder, name)
        if name.startswith("."):
            continue
        # Asking first for the ending saves a look at every file.
        if name.lower().endswith(IMAGE_ENDINGS):
            yield path
        elif PathManager.isdir(path):
            yield from _image_files(path, visited)
