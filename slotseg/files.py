"""Files: written so that a killed process never leaves half of one behind, read only where they
belong."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import Any

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


def name_fault(key: str, name: Any) -> str | None:
    """What is wrong with the name of a file that a data set's own file lists; None: nothing.

    A data set must not be able to point outside of its own folder, and a message is one line.

    Args:
        key: under which the name is listed, for the message.
        name: a path that is to be joined to a folder.
    """
    if not isinstance(name, str) or not name or "\n" in name:
        return f'"{key}" is {name!r}, expected the name of a file'
    if name.startswith("/") or ".." in PurePosixPath(name).parts or "://" in name:
        return f'"{key}" is {name!r}, expected a path inside the folder'
    return None


def _write(path: str, data: bytes) -> None:
    with PathManager.open(path, "wb") as file:
        file.write(data)
