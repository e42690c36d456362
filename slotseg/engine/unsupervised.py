"""A model without labels, made ready to be scored: clusters found, or read where they fit."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from tabulate import tabulate
from torch import nn

from slotseg.data import build_test_loader
from slotseg.data.mappers import build_mapper, dataset_kind
from slotseg.data.unlabelled import WithoutLabels
from slotseg.engine.checkpoint_files import is_remote, plain, save_file
from slotseg.engine.inference import inference_mode
from slotseg.engine.results import EVAL_ONLY_FOLDER
from slotseg.engine.rng import forked_rng
from slotseg.errors import ConfigError
from slotseg.unsupervised import (
    Clusters,
    ClusterSegmenter,
    ClusterSettings,
    ClusterShapes,
    ThingRule,
    build_part_finder,
    find_clusters,
)
from slotseg.unsupervised.clusters import CLUSTERS_FILE

_logger = logging.getLogger(__name__)


def with_clusters(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """``model`` as it is or, with ``UNSUPERVISED.CLUSTERS``, with clusters as classes.

    They are read from ``clusters.pth`` in the folder of the run, or beside ``MODEL.WEIGHTS``, if
    that file was made with the same weights, training sets and options; otherwise they are found on
    the training images, whose labels are not read, and saved in ``OUTPUT_DIR``.

    Raises:
        ConfigError: options that cannot work, or no training set.
        CheckpointError: a damaged file, or one that cannot be written.
    """
    node = cfg.UNSUPERVISED
    if not node.CLUSTERS:
        return model
    _check(cfg)
    parts = build_part_finder(cfg, model)
    settings = ClusterSettings(
        weights=_digest(model), images=_images(cfg), options=_options(cfg), seed=max(cfg.SEED, 0)
    )
    clusters = _read(cfg, settings)
    if clusters is None:
        with forked_rng(settings.seed), inference_mode(model):
            clusters, shapes = find_clusters(
                parts,
                lambda: _batches(cfg),
                clusters=node.CLUSTERS,
                rule=ThingRule(node.THING_MAX_AREA, node.THING_MAX_BORDER),
                parts_per_image=node.PARTS_PER_IMAGE,
                restarts=node.RESTARTS,
                seed=settings.seed,
            )
        _tell(clusters, shapes)
        if comm.is_main_process():
            PathManager.mkdirs(cfg.OUTPUT_DIR)
            path = os.path.join(cfg.OUTPUT_DIR, CLUSTERS_FILE)
            save_file(plain(clusters.to_state(settings)), path)
            _logger.info(f"Saved {path}")
        comm.synchronize()
    return ClusterSegmenter(model, parts, clusters, node.MIN_AREA)


def _check(cfg: CfgNode) -> None:
    node = cfg.UNSUPERVISED
    for name in ("CLUSTERS", "PARTS_PER_IMAGE", "RESTARTS"):
        if node[name] < 1:
            raise ConfigError(f"UNSUPERVISED.{name} is {node[name]}, it must be at least 1")
    if node.IMAGES < 0:
        raise ConfigError(f"UNSUPERVISED.IMAGES is {node.IMAGES}, it must be 0 (all) or more")
    if not cfg.DATASETS.TRAIN:
        raise ConfigError(
            "DATASETS.TRAIN is empty, and clusters are found on the training images; name a set"
        )
    scenes = [name for name in cfg.DATASETS.TEST if dataset_kind(name) != "panoptic"]
    if scenes:
        raise ConfigError(
            f"UNSUPERVISED.CLUSTERS: {scenes[0]} has no classes that clusters could get; set it to "
            "0, or name panoptic sets in DATASETS.TEST"
        )
    if cfg.TEST.SLOT_SCORES:
        raise ConfigError(
            "TEST.SLOT_SCORES: with UNSUPERVISED.CLUSTERS the segments are those of clusters, not "
            "of slots; set one of the two off"
        )
    if cfg.DATASETS.TRAIN_LABELS:
        _logger.warning(
            "DATASETS.TRAIN_LABELS is True: the model may have been trained with labels, so its "
            "scores are not those of one without"
        )


def _read(cfg: CfgNode, settings: ClusterSettings) -> Clusters | None:
    folders = [cfg.OUTPUT_DIR]
    if os.path.basename(cfg.OUTPUT_DIR) == EVAL_ONLY_FOLDER:
        folders.append(os.path.dirname(cfg.OUTPUT_DIR))
    # Stores such as the web's cannot tell whether they have a file.
    if cfg.MODEL.WEIGHTS and not is_remote(cfg.MODEL.WEIGHTS):
        folders.append(os.path.dirname(cfg.MODEL.WEIGHTS))
    for folder in folders:
        path = os.path.join(folder, CLUSTERS_FILE)
        if not PathManager.isfile(path):
            continue
        clusters = Clusters.load(path, settings)
        if clusters is not None:
            _logger.info(f"{len(clusters)} clusters from {path}")
            return clusters
        _logger.info(f"{path}: made with other weights, images or options, so clusters are found")
    return None


def _batches(cfg: CfgNode) -> Iterator[list[dict[str, Any]]]:
    """This rank's part of the training images, as in evaluation and without labels."""
    left = -(-cfg.UNSUPERVISED.IMAGES // comm.get_world_size()) or None
    for name in cfg.DATASETS.TRAIN:
        mapper = WithoutLabels(build_mapper(cfg, False, [name]))
        for batch in build_test_loader(cfg, name, mapper):
            yield batch[:left]
            if left is not None:
                left -= min(left, len(batch))
                if left == 0:
                    return


def _options(cfg: CfgNode) -> str:
    """What the clusters of the same weights depend on: ``UNSUPERVISED`` without what only scoring
    takes, what shares out images, and the model, whose weights do not tell its iterations."""
    kept = {k: v for k, v in cfg.UNSUPERVISED.items() if k not in ("MIN_AREA", "EXTRA_CLUSTERS")}
    kept["FEATURE"] = kept["FEATURE"] or cfg.MODEL.SLOTS.IN_FEATURE
    masks = {"MASK_SOURCE": cfg.TEST.MASK_SOURCE, "MASK_NMS_IOU": cfg.TEST.MASK_NMS_IOU}
    model = cfg.MODEL.clone()
    model.defrost()
    # Where weights come from, and how they are computed with.
    model.WEIGHTS = model.DEVICE = model.VIT.WEIGHTS = model.VIT.CACHE = ""
    model.TRUST_PICKLE = model.CHANNELS_LAST = False
    return json.dumps({**kept, **masks, "MODEL": model.dump()})


def _images(cfg: CfgNode) -> str:
    """Everything of the config that decides which images the model sees."""
    names = ", ".join(cfg.DATASETS.TRAIN)
    return f"{names}; {cfg.INPUT.dump()}; {cfg.DATASETS.MAX_OBJECTS} {cfg.DATASETS.MAX_IMAGES}"


def _digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _tell(clusters: Clusters, shapes: ClusterShapes) -> None:
    images = max(shapes.images, 1)
    rows = [
        [
            number,
            "thing" if thing else "stuff",
            *(_percent(x) for x in (area, region, border, present)),
            f"{regions:.1f}",
        ]
        for number, (thing, area, region, border, present, regions) in enumerate(
            zip(
                clusters.is_thing.tolist(),
                shapes.area / images,
                shapes.region_area,
                shapes.border_share,
                shapes.images_with / images,
                shapes.regions / np.maximum(shapes.images_with, 1),
                strict=True,
            )
        )
    ]
    headers = [
        "cluster",
        "",
        "% of pixels",
        "region, %",
        "at border, %",
        "in % of images",
        "regions",
    ]
    things = int(clusters.is_thing.sum())
    _logger.info(
        f"{len(clusters)} clusters on {shapes.images} training images, {things} of them things\n"
        + tabulate(rows, headers=headers, disable_numparse=True)
    )


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.1f}"
