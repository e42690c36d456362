"""Labelled and unlabelled images side by side: two orders, one set of worker processes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetFromList
from detectron2.utils import comm
from torch.utils.data import Dataset

from slotseg.data.batch import TrainingBatch
from slotseg.data.batch_loader import BatchLoader, MappedImages, data_seed
from slotseg.data.mappers import Mapper
from slotseg.data.sampling import (
    UNLABELED_AUGMENTATION,
    UNLABELED_ORDER,
    TrainingOrder,
    replacements,
    sample_seed,
)
from slotseg.data.splits import Split
from slotseg.data.two_views import TwoViewMapper
from slotseg.data.unlabeled_pool import REPLACEABLE, UnreadableFiles, unlabeled_images
from slotseg.errors import ConfigError, DatasetError, SlotSegError

# So many images in a row are tried before a whole pool is taken to be gone.
_MAX_REPLACEMENTS = 50
_UNREADABLE = "unreadable"


class JointLoader:
    """Iterable of :class:`TrainingBatch` without end; see
    :func:`slotseg.data.loader.build_train_loader`.

    Which unlabelled images iteration t sees, and how, depends on the seed and t alone, and not on
    the labelled ones, just as those do not depend on them.

    Attributes:
        order: which labelled images are drawn when; the one that draws.

    Args:
        cfg: ``SEMI.*``, ``DATASETS.{UNLABELED, UNLABELED_FOLDERS}``, and what
            :class:`~slotseg.data.two_views.TwoViewMapper` and :class:`BatchLoader` take.
        split: of the training sets.
        labeled: the labelled images, ready to be mapped.
        order: of the labelled images.
        start_iter: first iteration.
        mapper: of unlabelled data set dicts; by default the one that makes two views.

    Raises:
        ConfigError: a batch size that cannot be shared, no unlabelled image, or labels that are
            not to be read at all.
        DatasetError: a set or a folder is missing, damaged or empty. While iterating: a file of a
            registered set is, or almost all files of folders are.
    """

    def __init__(
        self,
        cfg: CfgNode,
        split: Split,
        labeled: MappedImages,
        order: TrainingOrder,
        start_iter: int,
        mapper: Mapper | None = None,
    ) -> None:
        if not cfg.DATASETS.TRAIN_LABELS:
            raise ConfigError(
                f"SEMI.IMS_PER_BATCH is {cfg.SEMI.IMS_PER_BATCH} but DATASETS.TRAIN_LABELS False, "
                "so no image is labelled and nobody can teach; set one of them back"
            )
        self._record = UnreadableFiles(cfg.OUTPUT_DIR)
        dicts = unlabeled_images(cfg, split, self._record)
        mapper = mapper or TwoViewMapper.from_config(cfg)
        self.order = order
        unlabeled_order = TrainingOrder(
            len(dicts),
            share_batch("SEMI.IMS_PER_BATCH", cfg.SEMI.IMS_PER_BATCH),
            data_seed(cfg),
            start_iter,
            comm.get_rank(),
            comm.get_world_size(),
            UNLABELED_ORDER,
        )
        unlabeled = _UnlabeledImages(dicts, mapper, data_seed(cfg))
        self._num_labeled = order.batch_size // order.world_size
        self._loader = BatchLoader(
            cfg,
            _JointImages(labeled, unlabeled),
            _JointOrder(order, unlabeled_order, len(labeled), start_iter),
            start_iter,
        )

    def __iter__(self) -> Iterator[TrainingBatch]:
        for images in self._loader:
            for image in images[self._num_labeled :]:
                faults = image.pop(_UNREADABLE, [])
                self._record.add(faults, "others take the place of images that cannot be read")
            yield TrainingBatch(images[: self._num_labeled], images[self._num_labeled :])


def share_batch(key: str, batch_size: int) -> int:
    """``batch_size``, if it is above 0 and every process can have an equal part of it.

    Raises:
        ConfigError: it is not; names ``key``.
    """
    world_size = comm.get_world_size()
    if batch_size < 1 or batch_size % world_size:
        raise ConfigError(
            f"{key} is {batch_size}, but it must be a multiple of the number of processes, "
            f"{world_size}"
        )
    return batch_size


class _JointOrder:
    """Batches of labelled images, then unlabelled ones; their indices begin behind the labelled."""

    def __init__(
        self, labeled: TrainingOrder, unlabeled: TrainingOrder, num_labeled: int, start_iter: int
    ) -> None:
        self._labeled = labeled
        self._unlabeled = unlabeled
        self._num_labeled = num_labeled
        self._start_iter = start_iter

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return map(self.batch, itertools.count(self._start_iter))

    def batch(self, number: int) -> list[tuple[int, int]]:
        unlabeled = self._unlabeled.batch(number)
        return [
            *self._labeled.batch(number),
            *((sample, self._num_labeled + index) for sample, index in unlabeled),
        ]


class _JointImages(Dataset):
    """Images of two kinds under one numbering, that of :class:`_JointOrder`."""

    def __init__(self, labeled: MappedImages, unlabeled: _UnlabeledImages) -> None:
        self._labeled = labeled
        self._unlabeled = unlabeled

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any] | SlotSegError:
        number, index = key
        images, place = self._find(index)
        return images[number, place]

    def file_name(self, index: int) -> str:
        images, place = self._find(index)
        return images.file_name(place)

    def _find(self, index: int) -> tuple[MappedImages | _UnlabeledImages, int]:
        behind = index - len(self._labeled)
        return (self._labeled, index) if behind < 0 else (self._unlabeled, behind)


class _UnlabeledImages:
    """(sample number, image index) to the mapped dict of the image, or of one in its place.

    What could not be read is in the mapped dict; a worker process has nobody else to tell.
    """

    def __init__(self, dicts: Sequence[dict[str, Any]], mapper: Mapper, seed: int) -> None:
        self._dicts = DatasetFromList(list(dicts), copy=False, serialize=True)
        self._mapper = mapper
        self._seed = seed

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any] | SlotSegError:
        number, index = key
        others = replacements(self._seed, number, len(self._dicts))
        faults: list[DatasetError] = []
        for candidate in itertools.chain([index], itertools.islice(others, _MAX_REPLACEMENTS)):
            entry = self._dicts[candidate]
            try:
                with sample_seed(self._seed, number, UNLABELED_AUGMENTATION):
                    return {**self._mapper(entry), _UNREADABLE: faults}
            except SlotSegError as error:
                if not entry[REPLACEABLE] or not isinstance(error, DatasetError):
                    return error
                faults.append(error)
        return DatasetError(
            f"{faults[0]} ({len(faults)} unlabelled images in a row cannot be read; check "
            "DATASETS.UNLABELED_FOLDERS)"
        )

    def file_name(self, index: int) -> str:
        return self._dicts[index]["file_name"]
