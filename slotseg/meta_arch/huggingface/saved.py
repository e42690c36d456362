"""Weights saved by the `transformers` library, from a folder or from its hub."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from detectron2.utils.file_io import PathManager
from torch import nn

from slotseg.errors import CheckpointError

_logger = logging.getLogger(__name__)


def read_saved(loader: Any, source: str, key: str, **options: Any) -> Any:
    """What ``loader.from_pretrained`` gives.

    Args:
        loader: a class of the library.
        source: folder made by ``save_pretrained``, or a name on the hub.
        key: config key that named the source, for messages.
        **options: of ``from_pretrained``.

    Raises:
        CheckpointError: the source cannot be read.
    """
    try:
        if PathManager.isdir(source):
            source = PathManager.get_local_path(source)
        return loader.from_pretrained(source, **options)
    except Exception as error:
        # Network, cache, JSON, safetensors and the library itself each raise their own.
        raise CheckpointError(
            f"{key}: {source} is neither a readable folder made by save_pretrained nor a model "
            f"that could be fetched from the hub ({one_line(error)}); give a folder, or leave "
            f"{key} empty to start from new weights"
        ) from error


def check_loaded(
    network: nn.Module,
    report: Mapping[str, Any],
    source: str,
    key: str,
    *,
    may_differ: tuple[str, ...] = (),
) -> None:
    """Refuse weights that do not fit, and tell which of the network's were not there.

    Args:
        network: just loaded.
        report: the library's loading info.
        source, key: as for :func:`read_saved`.
        may_differ: beginnings of names whose shapes may differ; those start anew.

    Raises:
        CheckpointError: another shape, or none of the network's weights.
    """
    # A difference is reported as (name, shape in the file, shape in the network).
    differing = sorted(entry[0] for entry in report["mismatched_keys"])
    wrong = [name for name in differing if not name.startswith(may_differ)]
    if wrong:
        raise CheckpointError(
            f"{key}: {source}: {len(wrong)} weights have another shape than in the network "
            f"(first: {wrong[0]}); make its description fit"
        )
    weights = {name for name, _ in network.named_parameters()}
    missing = sorted(weights & set(report["missing_keys"]))
    if len(missing) == len(weights):
        raise CheckpointError(f"{key}: {source}: holds none of the network's weights")
    if missing:
        _logger.warning(
            f"{source}: lacks {len(missing)} weights (first: {missing[0]}); these start anew"
        )


def one_line(error: BaseException) -> str:
    """An error of the library without its line breaks."""
    return " ".join(str(error).split()) or type(error).__name__
