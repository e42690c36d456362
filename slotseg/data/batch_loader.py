"""Batches from worker processes, the same for any number of them, and errors that name files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList
from torch.utils.data import DataLoader, Dataset

from slotseg.data.mappers import Mapper
from slotseg.data.sampling import sample_seed
from slotseg.data.transport import pack, unpack
from slotseg.errors import ConfigError, DatasetError, SlotSegError


class Order(Protocol):
    """Which images the batches hold."""

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """The batches, from the first one on."""

    def batch(self, number: int) -> list[tuple[int, int]]:
        """(sample number, image index) of each image of batch ``number``."""


class Images(Protocol):
    """What a :class:`BatchLoader` reads: (sample number, image index) to a mapped dict."""

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any] | SlotSegError:
        """The mapped dict, or the error that mapping raised."""

    def file_name(self, index: int) -> str:
        """The file of an image."""


class BatchLoader:
    """Iterable of batches; what goes wrong in a worker process comes out as its own error.

    PyTorch would wrap an error of a worker into a page of traceback, and of a worker that was
    killed it knows nothing. Here a :class:`DatasetError` arrives as it was raised, and a worker
    that died is reported with the files that were being waited for.

    Attributes:
        order: which images are drawn when; the training loader's is the one that draws.

    Args:
        cfg: ``DATALOADER.NUM_WORKERS``, ``SEED``.
        images: what is read.
        order: in which order.
        first_batch: number of the order's first batch.

    Raises:
        ConfigError: a negative number of workers.
    """

    def __init__(self, cfg: CfgNode, images: Images, order: Order, first_batch: int) -> None:
        num_workers = cfg.DATALOADER.NUM_WORKERS
        if num_workers < 0:
            raise ConfigError(f"DATALOADER.NUM_WORKERS is {num_workers}, it must be 0 or more")
        self._loader = DataLoader(
            images,
            batch_sampler=order,
            num_workers=num_workers,
            collate_fn=_collate_in_worker if num_workers else _collate,
            persistent_workers=num_workers > 0,
            # A generator of its own: otherwise every new iterator would advance torch's global one,
            # and a resumed run would differ from an uninterrupted one.
            generator=torch.Generator().manual_seed(data_seed(cfg)),
        )
        self._images = images
        self.order = order
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
            f"{self._images.file_name(indices[0])}: a data worker process died while this batch of "
            f"{len(indices)} images (or one soon after it) was read, killed or out of memory; "
            "lower DATALOADER.NUM_WORKERS, or set it to 0 to see the cause"
        )


class MappedImages(Dataset):
    """(sample number, image index) to the mapped dict, or to the error that mapping raised.

    Args:
        dicts: data set dicts.
        mapper: of one of them to the model's input; draws from the global generators.
        seed: that these are seeded with, together with the sample number.
    """

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
        """The file of an image."""
        return self._dicts[index]["file_name"]


def data_seed(cfg: CfgNode) -> int:
    """``SEED`` as the order and the augmentation of the data take it: negative is 0."""
    return max(cfg.SEED, 0)


def _collate(batch: list[Any]) -> Any:
    """The list as it is, or the first error in it."""
    return next((item for item in batch if isinstance(item, SlotSegError)), batch)


def _collate_in_worker(batch: list[Any]) -> Any:
    result = _collate(batch)
    return result if isinstance(result, SlotSegError) else pack(result)
