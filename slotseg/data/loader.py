"""Batches for training and evaluation, from the config."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, DatasetFromList
from detectron2.utils import comm
from detectron2.utils.logger import log_first_n
from torch.utils.data import DataLoader, Dataset

from slotseg.config import has_slots, num_slots
from slotseg.data.curriculum import build_training_order
from slotseg.data.difficulty import num_segments
from slotseg.data.feature_cache import CachedFeatures, FeatureCache
from slotseg.data.mappers import Mapper, build_mapper
from slotseg.data.sampling import EvaluationOrder, TrainingOrder, sample_seed
from slotseg.data.transport import pack, unpack
from slotseg.data.unlabelled import WithoutLabels
from slotseg.errors import ConfigError, DatasetError, SlotSegError


def build_train_loader(
    cfg: CfgNode, start_iter: int = 0, mapper: Mapper | None = None
) -> BatchLoader:
    """Training batches without end, from iteration ``start_iter`` on.

    Which images iteration t sees, in which order and with which augmentation, depends on
    ``cfg.SEED`` (negative: 0) and t alone: not on ``start_iter``, on the number of workers or on
    any global random state.

    Args:
        cfg: ``DATASETS.TRAIN`` (several sets are concatenated), ``DATASETS.MAX_OBJECTS``,
            ``DATASETS.MAX_IMAGES``, ``SOLVER.IMS_PER_BATCH`` (over all processes), ``CURRICULUM``,
            ``DATALOADER.NUM_WORKERS``, ``SEED``.
        start_iter: first iteration.
        mapper: from a data set dict to the model's input; by default the one that
            :mod:`slotseg.data.mappers` has for the kind of set.

    Returns:
        Iterable of lists of ``SOLVER.IMS_PER_BATCH / world size`` mapped dicts.

    Raises:
        ConfigError: no training set, an unknown one, sets of different kinds, or a batch size
            that cannot be shared.
        DatasetError: a set is missing, damaged or empty. While iterating: a file is.
    """
    dicts = _train_dicts(cfg)
    _warn_about(dicts, ", ".join(cfg.DATASETS.TRAIN), cfg)
    world_size = comm.get_world_size()
    batch_size = cfg.SOLVER.IMS_PER_BATCH
    if batch_size < 1 or batch_size % world_size:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH is {batch_size}, but it must be a multiple of the number of "
            f"processes, {world_size}"
        )
    order = build_training_order(
        cfg, dicts, batch_size, _seed(cfg), start_iter, comm.get_rank(), world_size
    )
    mapper = mapper or build_mapper(cfg, True, cfg.DATASETS.TRAIN)
    mapper = _with_features(cfg, mapper, cfg.DATASETS.TRAIN, dicts)
    return _build_loader(cfg, dicts, mapper, order, start_iter)


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
    dicts = _dataset_dicts(cfg, [dataset_name])
    _warn_about(dicts, dataset_name, cfg)
    if cfg.TEST.IMS_PER_BATCH < 1:
        raise ConfigError(f"TEST.IMS_PER_BATCH is {cfg.TEST.IMS_PER_BATCH}, it must be at least 1")
    dicts = dicts[first_image:]
    order = EvaluationOrder(
        len(dicts), cfg.TEST.IMS_PER_BATCH, comm.get_rank(), comm.get_world_size()
    )
    mapper = mapper or build_mapper(cfg, False, [dataset_name])
    mapper = _with_features(cfg, mapper, [dataset_name], dicts)
    return _build_loader(cfg, dicts, mapper, order, 0)


def build_survey_loader(cfg: CfgNode) -> BatchLoader:
    """All training images once, one a batch, in order and as evaluation sees them: unaugmented,
    with their labels where the training has them. Each process has its own part of them.

    Args:
        cfg: as for :func:`build_train_loader`.

    Returns:
        Iterable of lists of one mapped dict; together the processes have them in the order of
        :func:`training_images`.

    Raises:
        ConfigError, DatasetError: as :func:`build_train_loader`.
    """
    dicts = _train_dicts(cfg)
    order = EvaluationOrder(len(dicts), 1, comm.get_rank(), comm.get_world_size())
    mapper = build_mapper(cfg, False, cfg.DATASETS.TRAIN)
    if not cfg.DATASETS.TRAIN_LABELS:
        mapper = WithoutLabels(mapper)
    mapper = _with_features(cfg, mapper, cfg.DATASETS.TRAIN, dicts)
    return _build_loader(cfg, dicts, mapper, order, 0)


def training_images(cfg: CfgNode) -> list[dict[str, Any]]:
    """The data set dicts of the images that :func:`build_train_loader` draws from.

    Raises:
        ConfigError, DatasetError: as :func:`build_train_loader`.
    """
    return _train_dicts(cfg)


def epoch_length(cfg: CfgNode) -> int:
    """Iterations in which every training image is seen once, rounded up."""
    return -(-len(_train_dicts(cfg)) // cfg.SOLVER.IMS_PER_BATCH)


def dataset_images(cfg: CfgNode, dataset_name: str) -> list[dict[str, Any]]:
    """The data set dicts that :func:`build_test_loader` reads, in their order.

    Raises:
        ConfigError: unknown set.
        DatasetError: the set is missing, damaged or empty.
    """
    return _dataset_dicts(cfg, [dataset_name])


class BatchLoader:
    """Iterable of batches; what goes wrong in a worker process comes out as its own error.

    PyTorch would wrap an error of a worker into a page of traceback, and of a worker that was
    killed it knows nothing. Here a :class:`DatasetError` arrives as it was raised, and a worker
    that died is reported with the files that were being waited for.

    Attributes:
        order: which images are drawn when; the training loader's is the one that draws.
    """

    def __init__(
        self,
        loader: DataLoader,
        order: TrainingOrder | EvaluationOrder,
        file_names: Callable[[int], str],
        first_batch: int,
    ) -> None:
        self._loader = loader
        self.order = order
        self._file_name = file_names
        self._first_batch = first_batch

    def __len__(self) -> int:
        """Number of batches; a TypeError for the endless training loader."""
        return len(self.order)

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        number = self._first_batch
        batches = iter(self._loader)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                # torch has no class of its own for this.
                if "DataLoader worker" not in str(error) or "exited" not in str(error):
                    raise
                raise self._death_of_worker(number) from error
            if isinstance(batch, SlotSegError):
                raise batch
            yield unpack(batch)
            number += 1

    def _death_of_worker(self, number: int) -> DatasetError:
        indices = [index for _, index in self.order.batch(number)]
        return DatasetError(
            f"{self._file_name(indices[0])}: a data worker process died while this batch of "
            f"{len(indices)} images (or one soon after it) was read, killed or out of memory; "
            "lower DATALOADER.NUM_WORKERS, or set it to 0 to see the cause"
        )


class _MappedImages(Dataset):
    """(sample number, image index) to the mapped dict, or to the error that mapping raised."""

    def __init__(self, dicts: Sequence[dict[str, Any]], mapper: Mapper, seed: int) -> None:
        # Detectron2's list holds one block of bytes, which forked workers share for good; the
        # reference counts of 70 000 dicts would be copied to each of them page by page.
        self._dicts = DatasetFromList(list(dicts), copy=False, serialize=True)
        self._mapper = mapper
        self._seed = seed

    def __len__(self) -> int:
        return len(self._dicts)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any] | SlotSegError:
        number, index = key
        try:
            with sample_seed(self._seed, number):
                return self._mapper(self._dicts[index])
        except SlotSegError as error:
            return error

    def file_name(self, index: int) -> str:
        return self._dicts[index]["file_name"]


def _build_loader(
    cfg: CfgNode,
    dicts: list[dict[str, Any]],
    mapper: Mapper,
    order: TrainingOrder | EvaluationOrder,
    first_batch: int,
) -> BatchLoader:
    num_workers = cfg.DATALOADER.NUM_WORKERS
    if num_workers < 0:
        raise ConfigError(f"DATALOADER.NUM_WORKERS is {num_workers}, it must be 0 or more")
    dataset = _MappedImages(dicts, mapper, _seed(cfg))
    loader = DataLoader(
        dataset,
        batch_sampler=order,
        num_workers=num_workers,
        collate_fn=_collate_in_worker if num_workers else _collate,
        persistent_workers=num_workers > 0,
        # A generator of its own: otherwise every new iterator would advance torch's global one,
        # and a resumed run would differ from an uninterrupted one.
        generator=torch.Generator().manual_seed(_seed(cfg)),
    )
    return BatchLoader(loader, order, dataset.file_name, first_batch)


def _with_features(
    cfg: CfgNode, mapper: Mapper, names: Sequence[str], dicts: list[dict[str, Any]]
) -> Mapper:
    """The mapper; with ``MODEL.VIT.CACHE`` it adds the maps of the frozen backbone."""
    if not cfg.MODEL.VIT.CACHE:
        return mapper
    cache = FeatureCache(cfg.MODEL.VIT.CACHE, cfg)
    cache.take(names, dicts)
    return CachedFeatures(mapper, cache)


def _collate(batch: list[Any]) -> Any:
    """The list as it is, or the first error in it."""
    return next((item for item in batch if isinstance(item, SlotSegError)), batch)


def _collate_in_worker(batch: list[Any]) -> Any:
    result = _collate(batch)
    return result if isinstance(result, SlotSegError) else pack(result)


def _seed(cfg: CfgNode) -> int:
    return max(cfg.SEED, 0)


def _train_dicts(cfg: CfgNode) -> list[dict[str, Any]]:
    if not cfg.DATASETS.TRAIN:
        raise ConfigError(
            "DATASETS.TRAIN is empty; name one or more registered data sets, for instance "
            "'(\"clevr_generated_train\",)'"
        )
    return _dataset_dicts(cfg, cfg.DATASETS.TRAIN)


def _dataset_dicts(cfg: CfgNode, names: Sequence[str]) -> list[dict[str, Any]]:
    """The dicts of all sets, without those of more than ``DATASETS.MAX_OBJECTS`` objects; of each
    set the first ``DATASETS.MAX_IMAGES``."""
    limit, first = cfg.DATASETS.MAX_OBJECTS, cfg.DATASETS.MAX_IMAGES
    if limit < 0:
        raise ConfigError(f"DATASETS.MAX_OBJECTS is {limit}, it must be 0 (keep all) or more")
    if first < 0:
        raise ConfigError(f"DATASETS.MAX_IMAGES is {first}, it must be 0 (keep all) or more")
    kept: list[dict[str, Any]] = []
    for name in names:
        if name not in DatasetCatalog:
            near = difflib.get_close_matches(name, DatasetCatalog.list(), n=3, cutoff=0.6)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise ConfigError(f"DATASETS: no data set {name!r} is registered{hint}")
        dicts = DatasetCatalog.get(name)
        if limit:
            unknown = next((entry for entry in dicts if _num_objects(entry) is None), None)
            if unknown is not None:
                raise ConfigError(
                    f"DATASETS.MAX_OBJECTS is {limit}, but {name} does not say how many objects "
                    f"{unknown['file_name']} has; set it to 0"
                )
            dicts = [entry for entry in dicts if _num_objects(entry) <= limit]
        if not dicts:
            raise DatasetError(
                f"data set {name}: no images"
                + (f" with at most {limit} objects (DATASETS.MAX_OBJECTS)" if limit else "")
                + "; check how it was made"
            )
        kept += dicts[:first] if first else dicts
    return kept


def _num_objects(entry: dict[str, Any]) -> int | None:
    """Objects of an image; in panoptic sets its things, crowds left out. None: nobody says."""
    if "segments_info" in entry:
        return sum(s["isthing"] and not s["iscrowd"] for s in entry["segments_info"])
    return entry.get("num_objects")


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
