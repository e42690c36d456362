"""Checkpoint files on disk: written whole or not at all, checked before they are trusted."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from detectron2.utils.file_io import PathManager

from slotseg.errors import CheckpointError

PARTIAL = ".partial"
_LEFT_OVER = re.compile(r"\.partial(-\d+)?$")
_PERIODIC = re.compile(r"^model_(\d{7,})\.pth$")
# How torch names what it refused to call.
_FORBIDDEN = re.compile(r"Unsupported global: GLOBAL (\S+)")
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


def load_file(path: str, *, trust_pickle: bool = False) -> dict[str, Any]:
    """Read a checkpoint onto the CPU without executing code from it.

    ``.safetensors`` holds weights only. Everything else is read with ``weights_only=True``;
    files that need Python's unpickler (Detectron2's ``.pkl`` among them) only with
    ``trust_pickle``.

    Returns:
        The file's dict; a bare state dict comes as ``{"model": state_dict}``.

    Raises:
        CheckpointError: no such file, a damaged one, or one that could execute code.
    """
    local = _local_path(path)
    if path.endswith(".safetensors"):
        return {"model": _load_safetensors(local, path)}
    if path.endswith(".pkl"):
        return _load_pickle(local, path, trust_pickle)
    problem = damage(local)
    if problem:
        raise CheckpointError(f"{path}: the checkpoint is damaged ({problem})")
    try:
        data = torch.load(local, map_location="cpu", weights_only=not trust_pickle)
    except pickle.UnpicklingError as error:
        needed = _FORBIDDEN.search(str(error))
        raise CheckpointError(
            f"{path}: holds more than tensors and plain values"
            f"{f' ({needed.group(1)})' if needed else ''}, and reading it could execute code; if "
            "you trust its source add MODEL.TRUST_PICKLE True"
        ) from error
    except Exception as error:
        raise CheckpointError(
            f"{path}: cannot be read as a checkpoint ({_first_line(error)})"
        ) from error
    if not isinstance(data, Mapping):
        raise CheckpointError(f"{path}: not a checkpoint but a {type(data).__name__}")
    data = dict(data)
    return data if isinstance(data.get("model"), Mapping) else {"model": data}


def damage(path: str) -> str:
    """What is wrong with a checkpoint file, or an empty string.

    torch does not check the checksums that it writes, so a flipped bit would be loaded as a
    weight; here every byte is checked.
    """
    if os.path.getsize(path) == 0:
        return "it is empty"
    with open(path, "rb") as file:
        is_zip = file.read(2) == b"PK"
    if not is_zip:
        # torch's format of before 1.6, or no checkpoint; neither carries checksums.
        return ""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
        return f"truncated or overwritten: {_first_line(error)}"
    return f"wrong checksum of its part {broken}" if broken else ""


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
        if os.path.basename(path) != os.path.basename(other_than) and not damage(_local_path(path)):
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


def _local_path(path: str) -> str:
    try:
        local = PathManager.get_local_path(path)
    except Exception as error:
        raise CheckpointError(f"{path}: cannot be fetched ({_first_line(error)})") from error
    if not os.path.isfile(local):
        raise CheckpointError(f"{path}: no such checkpoint")
    return local


def _load_safetensors(local: str, path: str) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file as load

    try:
        return load(local, device="cpu")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: the file is damaged ({_first_line(error)})") from error


def _load_pickle(local: str, path: str, trust_pickle: bool) -> dict[str, Any]:
    if not trust_pickle:
        raise CheckpointError(
            f"{path}: is a Python pickle, and reading it could execute code; if you trust its "
            "source add MODEL.TRUST_PICKLE True"
        )
    try:
        with PathManager.open(local, "rb") as file:
            data = pickle.load(file, encoding="latin1")
    except Exception as error:
        raise CheckpointError(f"{path}: cannot be unpickled ({_first_line(error)})") from error
    if "model" in data and "__author__" in data:
        return data
    # Caffe2 and Detectron 1: weights, some of them in "blobs", with the optimiser's among them.
    blobs = data.get("blobs", data)
    weights = {key: value for key, value in blobs.items() if not key.endswith("_momentum")}
    return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}


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


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
