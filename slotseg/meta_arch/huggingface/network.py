"""Networks of the `transformers` library, from saved weights or from a description."""

from __future__ import annotations

import difflib
import importlib
import logging
import re
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import nn

from slotseg.errors import ConfigError
from slotseg.meta_arch.huggingface.saved import check_loaded, one_line, read_saved

_logger = logging.getLogger(__name__)

# Earlier releases start a new Mask2Former from other weights than the published code.
_OLDEST = (5, 23)
_PRETRAINED = "MODEL.HUGGINGFACE.PRETRAINED"
_CONFIG = "MODEL.HUGGINGFACE.CONFIG"
# What depends on the number of classes: the class layer, and the classes' weights in the loss.
_CLASS_HEAD = ("class_predictor.", "criterion.")


def import_transformers() -> ModuleType:
    """The library.

    Raises:
        ConfigError: it is not installed, or too old.
    """
    try:
        library = importlib.import_module("transformers")
    except ImportError as error:
        raise ConfigError(
            "MODEL.META_ARCHITECTURE: this model needs the transformers package, which cannot be "
            f'imported ({one_line(error)}); pip install "slotseg[transformers]" (Python 3.11 or '
            "newer)"
        ) from error
    found = tuple(int(part) for part in re.findall(r"\d+", library.__version__)[:2])
    if found < _OLDEST:
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE: this model needs transformers {_OLDEST[0]}.{_OLDEST[1]} or "
            f'newer, and {library.__version__} is installed; pip install "slotseg[transformers]" '
            "(Python 3.11 or newer)"
        )
    return library


def build_network(
    model_type: str, options: CfgNode, class_names: Sequence[str], dataset_name: str
) -> nn.Module:
    """A network for universal segmentation with one output a class and one for "no object".

    Args:
        model_type: as the library names it, for instance ``"mask2former"``.
        options: ``cfg.MODEL.HUGGINGFACE``.
        class_names: in contiguous order; they become the network's labels.
        dataset_name: for messages.

    Returns:
        The library's own model, in float32. Weights come from ``options.PRETRAINED``, or else from
        PyTorch's generator. A class layer of another width starts anew, with a warning.

    Raises:
        ConfigError: the library is missing, ``PRETRAINED`` is of another kind of model, or
            ``CONFIG`` has unknown keys or values that do not work.
        CheckpointError: ``PRETRAINED`` cannot be read, or its weights do not fit its own config.
    """
    transformers = import_transformers()
    if options.PRETRAINED:
        return _load(transformers, model_type, options.PRETRAINED, class_names, dataset_name)
    return _build(transformers, model_type, _plain(options.CONFIG), class_names)


def _build(
    transformers: ModuleType,
    model_type: str,
    described: dict[str, Any],
    class_names: Sequence[str],
) -> nn.Module:
    if not described:
        raise ConfigError(
            f"{_CONFIG}: describes no network, and {_PRETRAINED} is empty; give one of them "
            f"(examples: configs/cityscapes/{model_type}_*.yaml)"
        )
    try:
        _reject_unknown_keys(transformers, model_type, described)
        config = transformers.AutoConfig.for_model(model_type, **described)
        _set_labels(config, class_names)
        return transformers.AutoModelForUniversalSegmentation.from_config(config)
    except ConfigError:
        raise
    except Exception as error:
        # The library checks with whatever exception is at hand, from TypeError in arithmetic to
        # classes of its own.
        raise ConfigError(f"{_CONFIG}: {model_type} cannot be built: {one_line(error)}") from error


def _load(
    transformers: ModuleType,
    model_type: str,
    source: str,
    class_names: Sequence[str],
    dataset_name: str,
) -> nn.Module:
    config = read_saved(transformers.AutoConfig, source, _PRETRAINED)
    if config.model_type != model_type:
        raise ConfigError(
            f"{_PRETRAINED}: {source} is a {config.model_type} model, but "
            f"MODEL.META_ARCHITECTURE asks for {model_type}"
        )
    saved_names = list(config.id2label.values())
    _set_labels(config, class_names)
    network, report = read_saved(
        transformers.AutoModelForUniversalSegmentation,
        source,
        _PRETRAINED,
        config=config,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        dtype=torch.float32,
    )
    check_loaded(network, report, source, _PRETRAINED, may_differ=_CLASS_HEAD)
    _compare_classes(saved_names, class_names, source, dataset_name)
    return network


def _compare_classes(
    saved: Sequence[str], wanted: Sequence[str], source: str, dataset_name: str
) -> None:
    if len(saved) != len(wanted):
        _logger.warning(
            f"{source}: was trained on {len(saved)} classes and {dataset_name} has {len(wanted)}: "
            "the class layer starts anew"
        )
    elif not all(name.startswith("LABEL_") for name in saved) and list(saved) != list(wanted):
        first = next(c for c, (a, b) in enumerate(zip(saved, wanted, strict=True)) if a != b)
        _logger.warning(
            f"{source}: its classes are not named as those of {dataset_name} (class {first}: "
            f"{saved[first]} and {wanted[first]}); the class layer is kept, so check their order"
        )


def _set_labels(config: Any, class_names: Sequence[str]) -> None:
    config.id2label = dict(enumerate(class_names))
    config.label2id = {name: number for number, name in enumerate(class_names)}


def _reject_unknown_keys(
    transformers: ModuleType, model_type: str, described: Mapping[str, Any], prefix: str = _CONFIG
) -> None:
    """The library would take a misspelt key without a word."""
    known = transformers.AutoConfig.for_model(model_type).to_dict()
    for key, value in described.items():
        if key not in known and key != "out_features":
            near = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise ConfigError(f"{prefix}.{key}: {model_type} has no such option{hint}")
        if key == "backbone_config" and isinstance(value, Mapping):
            if "model_type" not in value:
                raise ConfigError(f"{prefix}.{key}: has no model_type, for instance swin")
            _reject_unknown_keys(transformers, value["model_type"], value, f"{prefix}.{key}")


def _plain(value: Any) -> Any:
    """Config nodes and tuples as dicts and lists, which is what JSON would have given."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value
