"""Reading files of weights: every byte checked, and no code executed from them.

Rooms of the model read pre-trained weights with it, checkpoints build on it.
"""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import torch
from detectron2.utils.file_io import PathManager

from slotseg.errors import CheckpointError

# How torch names what it refused to call.
_FORBIDDEN = re.compile(r"Unsupported global: GLOBAL (\S+)")


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
    local = local_path(path)
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


def local_path(path: str) -> str:
    """Where a file lies on this machine, fetched if need be.

    Raises:
        CheckpointError: it is not there.
    """
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
    if not isinstance(data, Mapping):
        raise CheckpointError(f"{path}: not a checkpoint but a {type(data).__name__}")
    if "model" in data and "__author__" in data:
        return data
    # Caffe2 and Detectron 1: weights, some of them in "blobs", with the optimiser's among them.
    blobs = data.get("blobs", data)
    weights = {key: value for key, value in blobs.items() if not key.endswith("_momentum")}
    return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
