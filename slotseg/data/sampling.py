"""Which image is sample number n, and with which random numbers: pure functions of the seed.

Nothing here has a state that would have to be saved: a run that is resumed at any iteration, with
any number of worker processes, sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

# Independent random streams of one seed.
_ORDER, _AUGMENTATION = 0, 1
_MIXING = 7
_RANDOM_KEYS = 10
# Of unlabelled images, beside those of labelled ones.
UNLABELED_ORDER, UNLABELED_AUGMENTATION, _REPLACEMENT = 20, 21, 22


class TrainingOrder:
    """Batches without end: every epoch is a permutation of the images.

    Sample number n is image ``permutation(seed, n // num_images)[n % num_images]``; iteration t
    of all processes together takes samples t * B to (t + 1) * B - 1, process r the r-th of
    ``world_size`` equal parts. Batches run over the ends of epochs, so all have B images.

    Args:
        num_images: images of the training set.
        batch_size: B, images an iteration over all processes; divisible by ``world_size``.
        seed: not negative.
        start_iter: the first iteration.
        rank: this process.
        world_size: number of processes.
        stream: of random numbers; orders of different streams have nothing to do with each other.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        seed: int,
        start_iter: int = 0,
        rank: int = 0,
        world_size: int = 1,
        stream: int = _ORDER,
    ) -> None:
        if num_images < 1 or batch_size < 1 or batch_size % world_size:
            raise ValueError(
                f"cannot share {batch_size} of {num_images} images among {world_size} processes"
            )
        self.num_images = num_images
        self.batch_size = batch_size
        self.seed = seed
        self.start_iter = start_iter
        self.rank = rank
        self.world_size = world_size
        self.stream = stream
        self._epoch: tuple[int, np.ndarray] | None = None

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return map(self.batch, itertools.count(self.start_iter))

    def batch(self, iteration: int) -> list[tuple[int, int]]:
        """(sample number, image index) of each image that this process sees at ``iteration``."""
        share = self.batch_size // self.world_size
        first = iteration * self.batch_size + self.rank * share
        return [(number, self._image(number)) for number in range(first, first + share)]

    def _image(self, number: int) -> int:
        epoch, position = divmod(number, self.num_images)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, self._permutation(epoch, self.num_images))
        return int(self._epoch[1][position])

    def _permutation(self, epoch: int, size: int) -> np.ndarray:
        generator = np.random.default_rng(_sequence(self.seed, self.stream, epoch))
        return generator.permutation(size)


class EvaluationOrder:
    """All images once, in their order, each process a run of them; the last batch may be short.

    Args:
        num_images: images of the set.
        batch_size: images that a process takes at once.
        rank: this process.
        world_size: number of processes.
    """

    def __init__(
        self, num_images: int, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> None:
        # Runs whose lengths differ by at most one: no process waits for another.
        self.begin = num_images * rank // world_size
        self.end = num_images * (rank + 1) // world_size
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-(self.end - self.begin) // self.batch_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return map(self.batch, range(len(self)))

    def batch(self, number: int) -> list[tuple[int, int]]:
        """(sample number, image index) of each image of batch ``number``; both are equal here."""
        first = self.begin + number * self.batch_size
        return [(i, i) for i in range(first, min(first + self.batch_size, self.end))]


def random_keys(num_images: int, seed: int) -> np.ndarray:
    """A random number in [0, 1) for every image, float64: the order where nothing else gives one.

    Args:
        num_images: how many.
        seed: not negative.
    """
    return np.random.default_rng(_sequence(seed, _RANDOM_KEYS, 0)).random(num_images)


@contextmanager
def sample_seed(seed: int, number: int, stream: int = _AUGMENTATION) -> Iterator[None]:
    """Seed NumPy's and Python's global generators for one sample; restore them afterwards.

    Detectron2's augmentations draw from these. torch's generator is left alone.
    """
    numpy_state, python_state = np.random.get_state(), random.getstate()
    words = _sequence(seed, stream, number).generate_state(8)
    np.random.seed(words[:4])
    random.seed(words[4:].tobytes())
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def mixing_generator(
    seed: int, iteration: int, rank: int, part: int, operation: int
) -> np.random.Generator:
    """Random numbers for mixing the images of one batch.

    Args:
        seed: not negative.
        iteration: from 0.
        rank: of the process, which has a part of the batch.
        part: number of the list of images in that part.
        operation: number of what is done to it.
    """
    key = (_MIXING, iteration, rank, part, operation)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def replacements(seed: int, number: int, num_images: int) -> Iterator[int]:
    """Indices of the images that sample ``number`` takes, one after the other without end, as long
    as those before cannot be read.

    Drawn at random: damaged files often lie side by side.
    """
    generator = np.random.default_rng(_sequence(seed, _REPLACEMENT, number))
    while True:
        yield int(generator.integers(num_images))


def _sequence(seed: int, stream: int, number: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(stream, number))
