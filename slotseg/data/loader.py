"""Batches for training and evaluation, from the config."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.logger import log_first_n

from slotseg.config import has_slots, num_slots
from slotseg.data.batch_loader import BatchLoader, MappedImages, data_seed
from slotseg.data.curriculum import build_training_order
from slotseg.data.difficulty import num_segments
from slotseg.data.feature_cache import CachedFeatures, FeatureCache
from slotseg.data.joint_loader import JointLoader, share_batch
from slotseg.data.mappers import Mapper, build_mapper
from slotseg.data.sampling import EvaluationOrder
from slotseg.data.selection import select_images
from slotseg.data.splits import split_training_images
from slotseg.data.unlabelled import WithoutLabels
from slotseg.errors import ConfigError


def build_train_loader(
    cfg: CfgNode,
    start_iter: int = 0,
    mapper: Mapper | None = None,
    unlabeled_mapper: Mapper | None = None,
) -> BatchLoader | JointLoader:
    """Training batches without end, from iteration ``start_iter`` on.

    Which images iteration t sees, in which order and with which augmentation, depends on
    ``cfg.SEED`` (negative: 0) and t alone: not on ``start_iter``, on the number of workers or on
    any global random state.

    Args:
        cfg: ``DATASETS.TRAIN`` (several sets are concatenated), ``DATASETS.MAX_OBJECTS``,
            ``DATASETS.MAX_IMAGES``, ``DATASETS.LABELED_*``, ``SOLVER.IMS_PER_BATCH`` (over all
            processes), ``CURRICULUM``, ``DATALOADER.NUM_WORKERS``, ``SEED``; with
            ``SEMI.IMS_PER_BATCH`` above 0 also what
            :class:`~slotseg.data.joint_loader.JointLoader` takes.
        start_iter: first iteration.
        mapper: from a data set dict to the model's input; by default the one that
            :mod:`slotseg.data.mappers` has for the kind of set.
        unlabeled_mapper: the same for unlabelled images; by default
            :class:`~slotseg.data.two_views.TwoViewMapper`.

    Returns:
        Iterable of lists of ``SOLVER.IMS_PER_BATCH / world size`` mapped dicts; with
        ``SEMI.IMS_PER_BATCH`` of :class:`~slotseg.data.batch.TrainingBatch`, whose ``unlabeled``
        are ``SEMI.IMS_PER_BATCH / world size`` besides.

    Raises:
        ConfigError: no training set, an unknown one, sets of different kinds, a batch size that
            cannot be shared, or a split that cannot be made.
        DatasetError: a set is missing, damaged or empty. While iterating: a file is.
    """
    split = split_training_images(cfg)
    dicts = split.labeled
    _warn_about(dicts, ", ".join(cfg.DATASETS.TRAIN), cfg)
    batch_size = share_batch("SOLVER.IMS_PER_BATCH", cfg.SOLVER.IMS_PER_BATCH)
    order = build_training_order(
        cfg, dicts, batch_size, data_seed(cfg), start_iter, comm.get_rank(), comm.get_world_size()
    )
    mapper = mapper or build_mapper(cfg, True, cfg.DATASETS.TRAIN)
    mapper = _with_features(cfg, mapper, cfg.DATASETS.TRAIN, dicts)
    images = MappedImages(dicts, mapper, data_seed(cfg))
    if cfg.SEMI.IMS_PER_BATCH:
        return JointLoader(cfg, split, images, order, start_iter, unlabeled_mapper)
    return BatchLoader(cfg, images, order, start_iter)


def build_test_loader(
    cfg: CfgNode, dataset_name: str, mapper: Mapper | None = None, first_image: int = 0
) -> BatchLoader:
    """All images of one set once, in order; each process has its own part of them.

    Args:
        cfg: ``DATASETS.MAX_OBJECTS``, ``DATASETS.MAX_IMAGES``, ``TEST.IMS_PER_BATCH`` (of each
            process), ``DATALOADER.NUM_WORKERS``.
        dataset_name: a registered set.
        mapper: from a data set dict to the model's input; by default the one that
            :mod:`slotseg.data.mappers` has for the kind of set.
        first_image: the images before this one are left out.

    Returns:
        Iterable of lists of mapped dicts; its ``len()`` is the number of batches.

    Raises:
        ConfigError: unknown set, or a batch size below 1.
        DatasetError: the set is missing, damaged or empty. While iterating: a file is.
    """
    dicts = select_images(cfg, [dataset_name])
    _warn_about(dicts, dataset_name, cfg)
    if cfg.TEST.IMS_PER_BATCH < 1:
        raise ConfigError(f"TEST.IMS_PER_BATCH is {cfg.TEST.IMS_PER_BATCH}, it must be at least 1")
    dicts = dicts[first_image:]
    order = EvaluationOrder(
        len(dicts), cfg.TEST.IMS_PER_BATCH, comm.get_rank(), comm.get_world_size()
    )
    mapper = mapper or build_mapper(cfg, False, [dataset_name])
    mapper = _with_features(cfg, mapper, [dataset_name], dicts)
    return BatchLoader(cfg, MappedImages(dicts, mapper, data_seed(cfg)), order, 0)


def build_survey_loader(cfg: CfgNode) -> BatchLoader:
    """All labelled training images once, one a batch, in order and as evaluation sees them:
    unaugmented, with their labels where the training has them. Each process has its own part of
    them.

    Args:
        cfg: as for :func:`build_train_loader`.

    Returns:
        Iterable of lists of one mapped dict; together the processes have them in the order of
        :func:`training_images`.

    Raises:
        ConfigError, DatasetError: as :func:`build_train_loader`.
    """
    dicts = training_images(cfg)
    order = EvaluationOrder(len(dicts), 1, comm.get_rank(), comm.get_world_size())
    mapper = build_mapper(cfg, False, cfg.DATASETS.TRAIN)
    if not cfg.DATASETS.TRAIN_LABELS:
        mapper = WithoutLabels(mapper)
    mapper = _with_features(cfg, mapper, cfg.DATASETS.TRAIN, dicts)
    return BatchLoader(cfg, MappedImages(dicts, mapper, data_seed(cfg)), order, 0)


def training_images(cfg: CfgNode) -> list[dict[str, Any]]:
    """The data set dicts of the labelled images that :func:`build_train_loader` draws from.

    Raises:
        ConfigError, DatasetError: as :func:`build_train_loader`.
    """
    return split_training_images(cfg).labeled


def epoch_length(cfg: CfgNode) -> int:
    """Iterations in which as many images are drawn as ``DATASETS.TRAIN`` has, rounded up.

    Where all are labelled, each is then seen once. Of a split all images count, whether their
    labels are used or not: periods that are counted in epochs are the same for any number of
    labels, and do not shrink to a few iterations where there are few.
    """
    split = split_training_images(cfg)
    return -(-(len(split.labeled) + len(split.rest)) // cfg.SOLVER.IMS_PER_BATCH)


def dataset_images(cfg: CfgNode, dataset_name: str) -> list[dict[str, Any]]:
    """The data set dicts that :func:`build_test_loader` reads, in their order.

    Raises:
        ConfigError: unknown set.
        DatasetError: the set is missing, damaged or empty.
    """
    return select_images(cfg, [dataset_name])


def _with_features(
    cfg: CfgNode, mapper: Mapper, names: Sequence[str], dicts: list[dict[str, Any]]
) -> Mapper:
    """The mapper; with ``MODEL.VIT.CACHE`` it adds the maps of the frozen backbone."""
    if not cfg.MODEL.VIT.CACHE:
        return mapper
    cache = FeatureCache(cfg.MODEL.VIT.CACHE, cfg)
    cache.take(names, dicts)
    return CachedFeatures(mapper, cache)


def _warn_about(dicts: list[dict[str, Any]], names: str, cfg: CfgNode) -> None:
    """One line a kind of trouble, once a process."""
    scenes = [entry["num_objects"] for entry in dicts if "num_objects" in entry]
    if empty := scenes.count(0):
        _warn_once(
            f"{names}: {empty} of {len(dicts)} images have no objects; they train only the "
            "background, and FG-ARI leaves them out"
        )
    counts = [count for entry in dicts if (count := num_segments(entry)) is not None]
    if empty := counts.count(0):
        _warn_once(
            f"{names}: {empty} of {len(dicts)} images have no segment but crowds; they train "
            "nothing, and panoptic quality counts only what is wrongly found there"
        )
    # Other models find segments by other means.
    if not has_slots(cfg.MODEL.META_ARCHITECTURE):
        return
    slots = num_slots(cfg)
    if crowded := sum(count > slots for count in counts):
        key = "MODEL.SLOTS.NUM_SLOTS"
        if slots != cfg.MODEL.SLOTS.NUM_SLOTS:
            key += " * GROUPING.SUB_SLOTS"
        what = (
            f"objects (up to {max(counts) - 1}) than {key} = {slots} can hold beside the background"
            if scenes
            else f"segments (up to {max(counts)}) than {key} = {slots}"
        )
        _warn_once(
            f"{names}: {crowded} of {len(dicts)} images have more {what}; raise it, or leave such "
            "images out with DATASETS.MAX_OBJECTS"
        )


def _warn_once(message: str) -> None:
    log_first_n(logging.WARNING, message, n=1, name=__name__, key="message")
