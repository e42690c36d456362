"""Writing files so that a killed process never leaves half of one behind."""

from __future__ import annotations

import os

from detectron2.utils.file_io import PathManager


def write_atomically(path: str, content: str | bytes) -> None:
    """Write ``content`` to ``path``: the old file or the whole new one is there at any moment.

    Local files are written under a temporary name in the same folder and renamed. Other stores
    that iopath knows show an object only once it is closed, so they are written in one go.
    The folder is created where needed. Text is UTF-8 with line ends as given.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    if "://" in path:
        _write(path, data)
        return
    PathManager.mkdirs(os.path.dirname(path) or ".")
    partial = f"{path}.partial-{os.getpid()}"
    try:
        _write(partial, data)
        os.replace(partial, path)
    except BaseException:
        if os.path.exists(partial):
            os.remove(partial)
        raise


def _write(path: str, data: bytes) -> None:
    with PathManager.open(path, "wb") as file:
        file.write(data)
