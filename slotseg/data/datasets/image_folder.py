"""Folders of images without anything else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from detectron2.utils.file_io import PathManager
from PIL import Image

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
        folder); and what is wrong with the others, and with subfolders that cannot be searched.

    Raises:
        DatasetError: no such folder, no image in it, or it cannot be searched.
    """
    root = resolve(folder)
    if not PathManager.isdir(root) and PathManager.isdir(folder):
        root = folder
    if not PathManager.isdir(root):
        raise DatasetError(f"{shown(root)}: no such folder of images {root_hint()}")
    faults: list[DatasetError] = []
    files = list(_image_files(root, set(), faults))
    if not files and faults:
        raise faults[0]
    if not files:
        raise DatasetError(
            f"{shown(root)}: no image in it or below it; files end with {', '.join(IMAGE_ENDINGS)}"
        )
    # Pillow loads its readers when the first file needs them, and until that is done would tell
    # other threads that a good file is none.
    Image.init()
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(_fault, files))
    dicts = [
        {"file_name": file, "image_id": os.path.relpath(file, root)}
        for file, fault in zip(files, found, strict=True)
        if fault is None
    ]
    return dicts, [*faults, *(fault for fault in found if fault is not None)]


def _fault(path: str) -> DatasetError | None:
    try:
        check_header(path)
    except DatasetError as error:
        return error
    return None


def _image_files(folder: str, visited: set[str], faults: list[DatasetError]) -> Iterator[str]:
    """Paths below ``folder``, sorted in every folder; those that cannot be searched go to
    ``faults``.
    """
    real = os.path.realpath(folder)
    if real in visited:  # a link to a folder above
        return
    visited.add(real)
    try:
        names = sorted(PathManager.ls(folder))
    except OSError as error:
        faults.append(
            DatasetError(
                f"{folder}: cannot be searched for images ({error.strerror or error}); check its "
                "permissions"
            )
        )
        return
    for name in names:
        path = os.path.join(folder, name)
        if name.startswith("."):
            continue
        # Asking first for the ending saves a look at every file.
        if name.lower().endswith(IMAGE_ENDINGS):
            yield path
        elif PathManager.isdir(path):
            yield from _image_files(path, visited, faults)
