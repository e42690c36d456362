"""Maps of a frozen backbone on disk: what the files are, and reading them.

A folder of safetensors shards, each with the maps of some images of one set, one behind the other,
as float16 ``[images, C, h, w]`` a map; and ``index.json``, which says of what they are: the part
of the config that they depend on, a digest of the weights, and the images with their sizes in
bytes. :mod:`slotseg.engine.feature_cache` writes them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager

from slotseg.config import has_slots
from slotseg.data.datasets.root import datasets_root
from slotseg.errors import ConfigError, DatasetError

INDEX_FILE = "index.json"
FEATURES = "cached_features"
"""Key of a mapped dict: a dict from the name of a map to float16 ``[C, h, w]``."""

_FORMAT, _VERSION = "slotseg-features", 1
_KEY = "MODEL.VIT.CACHE"
_AGAIN = "make it again with tools/cache_features.py"
# What the maps depend on, besides the weights and the images. MODEL.VIT.KEYS only adds a map.
_SETTINGS = (
    "MODEL.VIT.NAME",
    "MODEL.VIT.ARGS",
    "MODEL.VIT.STRIDE",
    "MODEL.VIT.PIXEL_MEAN",
    "MODEL.VIT.PIXEL_STD",
    "MODEL.PIXEL_MEAN",
    "MODEL.PIXEL_STD",
    "INPUT.FORMAT",
    "INPUT.CROP_WINDOW",
    "INPUT.IMAGE_SIZE",
)


@dataclass(frozen=True)
class Shard:
    """One file: ``count`` images of a set from number ``first`` on.

    Attributes:
        file: name in the folder.
        bytes, sha256: of the file.
    """

    file: str
    first: int
    count: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class CachedSet:
    """The images of one data set, ``(name, size of the file in bytes)``, and their shards."""

    images: list[tuple[str, int]]
    shards: list[Shard] = field(default_factory=list)


@dataclass(frozen=True)
class CacheIndex:
    """What ``index.json`` says.

    Attributes:
        settings: the part of the config that the maps depend on, by dotted key.
        weights: digest of the backbone's frozen weights.
        maps: shape ``[C, h, w]`` of each map.
        datasets: by name.
    """

    settings: dict[str, Any]
    weights: str
    maps: dict[str, list[int]]
    datasets: dict[str, CachedSet]

    def to_json(self) -> str:
        """The text of ``index.json``."""
        datasets = {
            name: {"images": entry.images, "shards": [vars(shard) for shard in entry.shards]}
            for name, entry in self.datasets.items()
        }
        content = {"format": _FORMAT, "version": _VERSION, **vars(self), "datasets": datasets}
        return json.dumps(content, indent=1) + "\n"


def read_index(folder: str) -> CacheIndex:
    """Read ``index.json`` of a cache.

    Raises:
        DatasetError: it is not there, damaged, or of another version.
    """
    path = os.path.join(folder, INDEX_FILE)
    if not PathManager.isfile(path):
        raise DatasetError(f"{folder}: no cache of features ({INDEX_FILE} is missing); {_AGAIN}")
    try:
        with PathManager.open(path, "r") as file:
            content = json.load(file)
        if (content["format"], content["version"]) != (_FORMAT, _VERSION):
            raise DatasetError(f"{path}: is of another format or version; {_AGAIN}")
        datasets = {
            name: CachedSet(
                [(image, size) for image, size in entry["images"]],
                [Shard(**shard) for shard in entry["shards"]],
            )
            for name, entry in content["datasets"].items()
        }
        return CacheIndex(content["settings"], content["weights"], content["maps"], datasets)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: is damaged; {_AGAIN}") from error


def cache_settings(cfg: CfgNode) -> dict[str, Any]:
    """What cached maps depend on, as JSON has it, by dotted key.

    Raises:
        ConfigError: images are augmented, or not all brought to one size; a model without slots.
    """
    if not has_slots(cfg.MODEL.META_ARCHITECTURE):
        raise ConfigError(
            f"{_KEY}: {cfg.MODEL.META_ARCHITECTURE} takes no cached features; leave it empty"
        )
    _refuse_augmentation(cfg)
    return {key: _plain(_look_up(cfg, key)) for key in _SETTINGS}


def listed_images(dicts: Sequence[dict[str, Any]]) -> list[tuple[str, int]]:
    """Name and size in bytes of the image file of every data set dict.

    Files below the root of the data sets are named relative to it, so that a cache can move with
    them.

    Raises:
        DatasetError: a file is missing.
    """
    return [(_name(entry["file_name"]), _bytes(entry["file_name"])) for entry in dicts]


class FeatureCache:
    """Reads cached maps, after having checked that they are of these images and this config.

    What is checked on opening: the config, the names and sizes of all images, the presence and the
    sizes of all shards. The weights are checked by whoever has the model, see
    :func:`slotseg.engine.feature_cache.check_weights`.

    Args:
        folder: of the cache.
        cfg: whole config of the training or evaluation.

    Raises:
        ConfigError: the config augments images.
        DatasetError: the cache is damaged, or of another config.
    """

    def __init__(self, folder: str, cfg: CfgNode) -> None:
        self.folder = folder
        self.index = read_index(folder)
        self._check_settings(cache_settings(cfg))
        self.maps = [name for name in self.index.maps if name != "keys" or cfg.MODEL.VIT.KEYS]
        if cfg.MODEL.VIT.KEYS and "keys" not in self.maps:
            raise DatasetError(
                f"{folder}: has no attention keys but MODEL.VIT.KEYS is True; {_AGAIN}"
            )
        self._check_shards()
        self._places: dict[str, tuple[str, int]] = {}
        self._readers: dict[str, Any] = {}

    def take(self, dataset_names: Sequence[str], dicts: Sequence[dict[str, Any]]) -> None:
        """Prepare to read the images of ``dicts``, which belong to these sets.

        Raises:
            DatasetError: an image is not in the cache, or its file has changed since.
        """
        sizes: dict[str, int] = {}
        for dataset in dataset_names:
            if dataset not in self.index.datasets:
                raise DatasetError(
                    f"{self.folder}: holds no features of {dataset}, only of "
                    f"{', '.join(self.index.datasets)}; {_AGAIN}"
                )
            entry = self.index.datasets[dataset]
            sizes.update(entry.images)
            for shard in entry.shards:
                for row in range(shard.count):
                    self._places[entry.images[shard.first + row][0]] = (shard.file, row)
        for name, size in listed_images(dicts):
            if name not in self._places:
                raise DatasetError(f"{self.folder}: holds no features of {name}; {_AGAIN}")
            if size != sizes[name]:
                raise DatasetError(
                    f"{self.folder}: {name} has changed since its features were cached ({size} "
                    f"bytes, then {sizes[name]}); {_AGAIN}"
                )

    def read(self, file_name: str) -> dict[str, torch.Tensor]:
        """The maps of an image by name: float16 ``[C, h, w]`` each.

        Raises:
            DatasetError: the shard cannot be read.
        """
        shard, row = self._places[_name(file_name)]
        try:
            reader = self._readers.get(shard) or self._open(shard)
            return {name: reader.get_slice(name)[row] for name in self.maps}
        except Exception as error:  # safetensors has an exception of its own for everything
            path = os.path.join(self.folder, shard)
            raise DatasetError(f"{path}: the file is damaged ({error}); {_AGAIN}") from error

    def __getstate__(self) -> dict[str, Any]:
        """Open files stay behind when a worker process gets a copy."""
        return {**self.__dict__, "_readers": {}}

    def _open(self, shard: str) -> Any:
        from safetensors import safe_open

        path = PathManager.get_local_path(os.path.join(self.folder, shard))
        self._readers[shard] = safe_open(path, framework="pt")
        return self._readers[shard]

    def _check_settings(self, wanted: dict[str, Any]) -> None:
        for key, value in wanted.items():
            found = self.index.settings.get(key)
            if found != value:
                raise DatasetError(
                    f"{self.folder}: was made with {key} {found}, the config says {value}; "
                    f"{_AGAIN}, or leave {_KEY} empty"
                )

    def _check_shards(self) -> None:
        for entry in self.index.datasets.values():
            for shard in entry.shards:
                path = os.path.join(self.folder, shard.file)
                found = _bytes(path) if PathManager.isfile(path) else 0
                if found != shard.bytes:
                    raise DatasetError(
                        f"{path}: is missing or cut short ({found} of {shard.bytes} bytes); "
                        f"{_AGAIN}"
                    )


class CachedFeatures:
    """A mapper that adds the cached maps of the image under :data:`FEATURES`.

    Args:
        mapper: makes the rest of the mapped dict.
        cache: prepared for the images that will be asked for.
    """

    def __init__(
        self, mapper: Callable[[dict[str, Any]], dict[str, Any]], cache: FeatureCache
    ) -> None:
        self._mapper = mapper
        self._cache = cache

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map one data set dict."""
        mapped = self._mapper(dataset_dict)
        mapped[FEATURES] = self._cache.read(dataset_dict["file_name"])
        return mapped


def _refuse_augmentation(cfg: CfgNode) -> None:
    changes = {
        "INPUT.RANDOM_FLIP": cfg.INPUT.RANDOM_FLIP != "none" and '"none"',
        **{
            f"INPUT.COLOR_JITTER.{name}": value != 0 and "0"
            for name, value in cfg.INPUT.COLOR_JITTER.items()
        },
        "INPUT.STRONG.LABELED": cfg.INPUT.STRONG.LABELED and "False",
        "SEMI.IMS_PER_BATCH": cfg.SEMI.IMS_PER_BATCH != 0 and "0",
        "INPUT.CROP.ENABLED": cfg.INPUT.CROP.ENABLED and "False",
        "INPUT.RESIZE": cfg.INPUT.RESIZE != "fixed" and '"fixed"',
    }
    for key, needed in changes.items():
        if needed:
            raise ConfigError(
                f"{key}: is {_look_up(cfg, key)!r}, but cached features are of images that are "
                f"the same in every epoch; set it to {needed}"
            )


def _look_up(cfg: CfgNode, key: str) -> Any:
    node: Any = cfg
    for part in key.split("."):
        node = node[part]
    return node


def _plain(value: Any) -> Any:
    """As it comes back from JSON: lists for tuples."""
    return json.loads(json.dumps(value))


def _name(path: str) -> str:
    root = os.path.join(os.path.abspath(datasets_root()), "")
    whole = path if "://" in path else os.path.abspath(path)
    return whole.removeprefix(root)


def _bytes(path: str) -> int:
    local = PathManager.get_local_path(path)
    if not os.path.isfile(local):
        raise DatasetError(f"{path}: no such file; the data set is incomplete")
    return os.path.getsize(local)
