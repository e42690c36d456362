"""What ``tools/cache_features.py`` does: the maps of a frozen ViT, written to disk once."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import Tensor, nn
from tqdm import tqdm

from slotseg.backbone.vit import VisionTransformerBackbone
from slotseg.data import build_test_loader, dataset_images
from slotseg.data.feature_cache import (
    INDEX_FILE,
    CachedSet,
    CacheIndex,
    Shard,
    cache_settings,
    listed_images,
    read_index,
)
from slotseg.engine.checkpoint import SlotSegCheckpointer
from slotseg.engine.checkpoint_files import remove_partial_files
from slotseg.engine.inference import inference_mode
from slotseg.engine.rng import seed_all
from slotseg.errors import ConfigError, DatasetError
from slotseg.files import write_atomically

SHARD_BYTES = 256 * 2**20
"""Largest size of a shard, unless one image takes more."""

# The plan of a cache that is being written, in its partial folder: an index without shards.
_PLAN_FILE = "plan.json"
_BYTES_PER_VALUE = 2
# safetensors writes this much and some more before the values.
_HEADER_BYTES = 1024

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CachePlan:
    """What a cache will hold, known before anything is written.

    Attributes:
        index: without shards.
        per_shard: images a file.
    """

    index: CacheIndex
    per_shard: int

    @property
    def images(self) -> int:
        """Over all data sets."""
        return sum(len(entry.images) for entry in self.index.datasets.values())

    @property
    def bytes_per_image(self) -> int:
        """On disk, all maps together."""
        return _BYTES_PER_VALUE * sum(c * h * w for c, h, w in self.index.maps.values())

    @property
    def bytes(self) -> int:
        """On disk, of all shards."""
        shards = sum(-(-len(e.images) // self.per_shard) for e in self.index.datasets.values())
        return self.images * self.bytes_per_image + shards * _HEADER_BYTES

    def __str__(self) -> str:
        maps = ", ".join(
            f"{name} {' x '.join(map(str, shape))}" for name, shape in self.index.maps.items()
        )
        return (
            f"{self.images:,} images, {maps} as float16: {self.bytes_per_image / 1e3:,.0f} kB an "
            f"image, {self.bytes / 1e9:,.2f} GB in all"
        )


class FeatureCacheWriter:
    """Runs the frozen ViT of a config once over its data sets and writes what it gives.

    The files grow in ``<output>.partial`` and get their name when all of them are complete. A run
    that was stopped goes on behind its last complete shard, if it is of the same config, weights
    and images; otherwise it starts anew.

    Args:
        cfg: whole config; its ``MODEL.VIT.CACHE`` does not count.
        output: folder of the cache.

    Raises:
        ConfigError: the config augments images, or has no ViT, or one that is trained.
        CheckpointError: the weights cannot be loaded.
        DatasetError: a set is missing or damaged.
    """

    def __init__(self, cfg: CfgNode, output: str) -> None:
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.VIT.CACHE = ""
        self._cfg = cfg
        self._output = output.rstrip("/")
        self._partial = f"{self._output}.partial"
        settings = cache_settings(cfg)
        # As at the start of a training: a ViT of random weights is the same there.
        seed_all(max(cfg.SEED, 0))
        self._model = build_model(cfg)
        SlotSegCheckpointer(self._model, trust_pickle=cfg.MODEL.TRUST_PICKLE).load(
            cfg.MODEL.WEIGHTS, checkpointables=[]
        )
        self._vit = cached_vit(self._model)
        if not (cfg.MODEL.VIT.WEIGHTS or cfg.MODEL.WEIGHTS):
            _logger.warning("The ViT has random weights: MODEL.VIT.WEIGHTS is empty")
        names = dict.fromkeys((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST))
        index = CacheIndex(
            settings=settings,
            weights=weights_digest(self._vit),
            maps={k: list(v.shape) for k, v in self._first_maps(next(iter(names), "")).items()},
            datasets={name: CachedSet(listed_images(dataset_images(cfg, name))) for name in names},
        )
        size = CachePlan(index, 1).bytes_per_image
        self.plan = CachePlan(index, max(1, SHARD_BYTES // size))

    def write(self, *, progress: bool = True) -> bool:
        """Write what is not there yet, then read every byte back.

        Args:
            progress: show a bar.

        Returns:
            False if the cache was complete before, and was only checked.

        Raises:
            DatasetError: the disk is too small; the folder holds something else; a value is too
                large for float16; a file was damaged after it was written.
        """
        if os.path.exists(self._output):
            self._check_existing(progress)
            return False
        try:
            self._write(progress)
        except OSError as error:
            raise DatasetError(
                f"{self._partial}: cannot be written ({error.strerror or error}); mend that and "
                "run this again, which goes on from here"
            ) from error
        return True

    def _write(self, progress: bool) -> None:
        self._begin()
        bar = tqdm(
            total=self.plan.images,
            desc="caching features",
            unit=" images",
            disable=None if progress else True,
        )
        with bar, inference_mode(self._model):
            datasets = {
                name: CachedSet(entry.images, list(self._shards(name, len(entry.images), bar)))
                for name, entry in self.plan.index.datasets.items()
            }
        index = CacheIndex(**{**vars(self.plan.index), "datasets": datasets})
        check_shards(self._partial, index, progress=progress)
        write_atomically(os.path.join(self._partial, INDEX_FILE), index.to_json())
        os.remove(os.path.join(self._partial, _PLAN_FILE))
        os.replace(self._partial, self._output)

    def _begin(self) -> None:
        """The partial folder with this plan; shards of another plan are removed."""
        path = os.path.join(self._partial, _PLAN_FILE)
        text = json.dumps({"per_shard": self.plan.per_shard, **asdict(self.plan.index)})
        same = os.path.isfile(path) and _read_text(path) == text
        if os.path.isdir(self._partial) and not same:
            _logger.warning(f"{self._partial}: is of another config or other images; removed")
            shutil.rmtree(self._partial)
        os.makedirs(self._partial, exist_ok=True)
        remove_partial_files(self._partial)
        there = sum(entry.stat().st_size for entry in os.scandir(self._partial))
        free = shutil.disk_usage(self._partial).free
        if self.plan.bytes - there > free:
            raise DatasetError(
                f"{self._partial}: needs {(self.plan.bytes - there) / 1e9:,.2f} GB, but only "
                f"{free / 1e9:,.2f} GB are free on this disk; choose another --output"
            )
        write_atomically(path, text)

    def _shards(self, dataset: str, count: int, bar: tqdm) -> Iterator[Shard]:
        """The shards of a set, in order; complete ones are taken as they are."""
        firsts = list(range(0, count, self.plan.per_shard))
        done = 0
        for first in firsts:
            found = self._existing_shard(dataset, first, min(self.plan.per_shard, count - first))
            if found is None:
                break
            done = first + found.count
            bar.update(found.count)
            yield found
        if done == count:
            return
        waiting: list[dict[str, Tensor]] = []
        for batch in build_test_loader(self._cfg, dataset, first_image=done):
            maps = self._maps(batch)
            for i in range(len(batch)):
                waiting.append({name: values[i] for name, values in maps.items()})
                if len(waiting) == min(self.plan.per_shard, count - done):
                    yield self._write_shard(dataset, done, waiting)
                    done, waiting = done + len(waiting), []
            bar.update(len(batch))

    def _existing_shard(self, dataset: str, first: int, count: int) -> Shard | None:
        from safetensors import SafetensorError, safe_open

        path = self._shard_path(dataset, first)
        if not os.path.isfile(path):
            return None
        try:
            with safe_open(path, framework="pt") as file:
                shapes = {name: file.get_slice(name).get_shape() for name in self.plan.index.maps}
        except SafetensorError:
            return None
        wanted = {name: [count, *shape] for name, shape in self.plan.index.maps.items()}
        if shapes != wanted:
            return None
        name, size = os.path.basename(path), os.path.getsize(path)
        return Shard(name, first, count, size, _file_digest(path))

    def _write_shard(self, dataset: str, first: int, images: list[dict[str, Tensor]]) -> Shard:
        from safetensors.torch import save

        content = save({name: torch.stack([maps[name] for maps in images]) for name in images[0]})
        path = self._shard_path(dataset, first)
        write_atomically(path, content)
        # Of what was meant, so that the check finds what the disk made of it.
        digest = hashlib.sha256(content).hexdigest()
        return Shard(os.path.basename(path), first, len(images), len(content), digest)

    def _shard_path(self, dataset: str, first: int) -> str:
        return os.path.join(
            self._partial, f"{dataset}-{first // self.plan.per_shard:05d}.safetensors"
        )

    def _maps(self, batch: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Float16 maps ``[B, C, h, w]`` on the CPU."""
        maps = self._vit.token_maps(self._model.preprocess(batch))
        halves = {name: values.to(torch.float16).cpu() for name, values in maps.items()}
        for name, values in halves.items():
            if not torch.isfinite(values).all():
                raise DatasetError(
                    f"{batch[0]['file_name']}: a value of the map {name} is no finite float16 "
                    "number; these features cannot be cached, leave MODEL.VIT.CACHE empty"
                )
        return halves

    def _first_maps(self, dataset: str) -> dict[str, Tensor]:
        """Maps ``[C, h, w]`` of the first image, to know their sizes."""
        cfg = self._cfg.clone()
        cfg.TEST.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS = 1, 0
        with inference_mode(self._model):
            maps = self._maps(next(iter(build_test_loader(cfg, dataset))))
        return {name: values[0] for name, values in maps.items()}

    def _check_existing(self, progress: bool) -> None:
        index = read_index(self._output)
        ours = self.plan.index
        for what, same in (
            ("another config", index.settings == ours.settings),
            ("other weights", index.weights == ours.weights),
            ("other maps", index.maps == ours.maps),
            (
                "other images",
                {k: v.images for k, v in index.datasets.items()}
                == {k: v.images for k, v in ours.datasets.items()},
            ),
        ):
            if not same:
                raise DatasetError(
                    f"{self._output}: holds features of {what}; remove it or choose another "
                    "--output"
                )
        check_shards(self._output, index, progress=progress)


def check_shards(folder: str, index: CacheIndex, *, progress: bool = True) -> None:
    """Read every byte of a cache.

    Raises:
        DatasetError: a shard is missing, or not what was written.
    """
    shards = [shard for entry in index.datasets.values() for shard in entry.shards]
    bar = tqdm(shards, desc="checking", unit=" files", disable=None if progress else True)
    for shard in bar:
        path = os.path.join(folder, shard.file)
        if not os.path.isfile(path) or _file_digest(path) != shard.sha256:
            raise DatasetError(
                f"{path}: is missing or damaged; remove the folder and run tools/cache_features.py "
                "again"
            )


def check_weights(cfg: CfgNode, model: nn.Module) -> None:
    """Refuse to train or score a model on features of other weights than its own.

    Does nothing where ``MODEL.VIT.CACHE`` is empty. The rest of a cache is checked when a loader
    opens it, see :class:`slotseg.data.feature_cache.FeatureCache`.

    Raises:
        ConfigError: the model has no ViT, or one that is trained.
        DatasetError: the weights are others.
    """
    if not cfg.MODEL.VIT.CACHE:
        return
    found = read_index(cfg.MODEL.VIT.CACHE).weights
    if found != weights_digest(cached_vit(model)):
        raise DatasetError(
            f"{cfg.MODEL.VIT.CACHE}: holds features of a ViT with other weights than this model's; "
            "make it again with tools/cache_features.py, or leave MODEL.VIT.CACHE empty"
        )


def cached_vit(model: nn.Module) -> VisionTransformerBackbone:
    """The frozen ViT in a model, below a feature pyramid or not.

    Raises:
        ConfigError: there is none, or it is trained.
    """
    modules = (m for m in model.modules() if isinstance(m, VisionTransformerBackbone))
    vit = next(modules, None)
    if vit is None:
        raise ConfigError(
            "MODEL.BACKBONE.NAME: only features of a vision transformer can be cached; set it to "
            "build_dinov2_backbone or build_dinov2_fpn_backbone"
        )
    if not vit.frozen:
        raise ConfigError(
            "MODEL.VIT: features can be cached only of a ViT that is not trained; set "
            "UNFROZEN_BLOCKS and LORA_RANK to 0"
        )
    return vit


def weights_digest(vit: VisionTransformerBackbone) -> str:
    """SHA-256 of the names and values of all weights of the ViT."""
    digest = hashlib.sha256()
    for name, value in sorted(vit.vit.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _file_digest(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb", buffering=io.DEFAULT_BUFFER_SIZE) as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _read_text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()
