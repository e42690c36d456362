"""Checkpoint files on disk: written whole or not at all; see :mod:`slotseg.weight_files`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from detectron2.utils.file_io import PathManager

from slotseg.errors import CheckpointError
from slotseg.weight_files import damage, local_path

PARTIAL = ".partial"
_LEFT_OVER = re.compile(r"\.partial(-\d+)?$")
_PERIODIC = re.compile(r"^model_(\d{7,})\.pth$")
_SAFE_SCALARS = (str, int, float, bool, type(None), torch.Size, torch.dtype)


def is_remote(path: str) -> bool:
    """Whether ``path`` lies in a store that only iopath can reach."""
    return "://" in path


def save_file(data: Any, path: str) -> None:
    """``torch.save`` under a temporary name in the same folder, flushed to the disk, renamed.

    After a crash at any moment, of the process or of the machine, ``path`` is the old file or the
    whole new one. Other stores that iopath knows show an object only once it is closed.

    Raises:
        CheckpointError: the file cannot be written (disk full, no permission).
    """
    partial = path if is_remote(path) else path + PARTIAL
    try:
        with PathManager.open(partial, "wb") as file:
            torch.save(data, file)
            if partial != path:
                file.flush()
                os.fsync(file.fileno())
        if partial != path:
            os.replace(partial, path)
            _sync_folder(os.path.dirname(path) or ".")
    except OSError as error:
        _remove_if_there(partial)
        raise CheckpointError(f"{path}: cannot be written: {error.strerror or error}") from error
    except BaseException:
        _remove_if_there(partial)
        raise


def write_text(text: str, path: str) -> None:
    """A small text file, as safely as :func:`save_file`."""
    if is_remote(path):
        with PathManager.open(path, "w") as file:
            file.write(text)
        return
    with PathManager.open(path + PARTIAL, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + PARTIAL, path)
    _sync_folder(os.path.dirname(path) or ".")


def periodic_files(folder: str) -> list[tuple[int, str]]:
    """``(iteration, path)`` of the checkpoints ``model_<iteration>.pth``, newest first."""
    if not PathManager.isdir(folder):
        return []
    found = []
    for name in PathManager.ls(folder):
        match = _PERIODIC.match(name)
        if match:
            found.append((int(match.group(1)), os.path.join(folder, name)))
    return sorted(found, reverse=True)


def newest_intact(folder: str, *, other_than: str = "") -> str:
    """The newest periodic checkpoint whose every byte is right, or an empty string."""
    for _, path in periodic_files(folder):
        if os.path.basename(path) != os.path.basename(other_than) and not damage(local_path(path)):
            return path
    return ""


def remove_partial_files(folder: str) -> None:
    """Remove what a killed process left of files it was writing."""
    if is_remote(folder) or not PathManager.isdir(folder):
        return
    for name in PathManager.ls(folder):
        if _LEFT_OVER.search(name):
            _remove_if_there(os.path.join(folder, name))


def plain(value: Any, where: str = "checkpoint") -> Any:
    """``value`` of types that ``weights_only`` accepts; NumPy's become Python's and torch's.

    Checked when saving: a checkpoint that can be written but not read is worse than none.

    Raises:
        CheckpointError: a value of another type, named by its path in the checkpoint.
    """
    if isinstance(value, torch.Tensor) or type(value) in _SAFE_SCALARS:
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, Mapping):
        return {key: plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    raise CheckpointError(
        f"{where}: a {type(value).__name__} cannot be saved safely; let state_dict() return "
        "tensors, numbers, strings, lists and dicts"
    )


def _sync_folder(folder: str) -> None:
    # A rename is durable once its folder is; not every platform lets a folder be opened.
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_if_there(path: str) -> None:
    if not is_remote(path) and os.path.exists(path):
        os.remove(path)
