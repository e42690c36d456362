"""Easy images first: which image is sample number n when not all of them are in yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode

from slotseg.data.difficulty import (
    LOSS,
    check_labels_are_read,
    check_measure,
    image_difficulties,
)
from slotseg.data.pacing import Pacing
from slotseg.data.sampling import TrainingOrder, random_keys


@dataclass(frozen=True)
class _Ranking:
    """Images by difficulty, and the iteration from which new rounds follow it."""

    since: int
    difficulties: np.ndarray
    easiest_first: np.ndarray


class Rankings:
    """How difficult images are, measured once or again and again.

    Args:
        num_images: N.
        seed: puts images that are equally difficult into a random order.
    """

    def __init__(self, num_images: int, seed: int) -> None:
        self.num_images = num_images
        self.seed = seed
        self._keys = random_keys(num_images, seed)
        self._rankings: list[_Ranking] = []
        # Rounds have the same lengths ever after, even when the first ranking is forgotten.
        self._first: int | None = None

    def add(self, since: int, difficulties: np.ndarray) -> None:
        """Rank the images anew.

        Args:
            since: rounds that begin at this iteration or later follow it; not before the last one.
            difficulties: float ``[N]``, more is harder; NaN is harder than all.
        """
        values = np.asarray(difficulties, np.float64)
        if values.shape != (self.num_images,):
            raise ValueError(f"difficulties of {values.shape}, not of {self.num_images} images")
        if self._rankings and since < self._rankings[-1].since:
            raise ValueError(f"a ranking of iteration {since} comes too late")
        if self._first is None:
            self._first = since
        self._rankings.append(_Ranking(since, values, np.lexsort((self._keys, values))))

    @property
    def latest(self) -> np.ndarray | None:
        """The difficulties ``[N]`` that were added last."""
        return self._rankings[-1].difficulties if self._rankings else None

    def at(self, iteration: int) -> _Ranking | None:
        """The ranking that a round follows which begins at ``iteration``; None: there is none.

        Of rounds that :meth:`forget` has left behind only this remains known: whether there was
        one. The oldest ranking stands for theirs.
        """
        if self._first is None or iteration < self._first:
            return None
        known = [ranking for ranking in self._rankings if ranking.since <= iteration]
        return known[-1] if known else self._rankings[0]

    def forget(self, iteration: int) -> None:
        """Drop the rankings that no round follows which begins at ``iteration`` or later."""
        superseded = sum(ranking.since <= iteration for ranking in self._rankings) - 1
        self._rankings = self._rankings[max(superseded, 0) :]

    def state_dict(self) -> dict[str, Any]:
        """Iterations and difficulties (float64 tensors ``[N]``)."""
        return {
            "first": self._first,
            "since": [ranking.since for ranking in self._rankings],
            "difficulties": [torch.from_numpy(r.difficulties.copy()) for r in self._rankings],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The counterpart of :meth:`state_dict`.

        Raises:
            ValueError: it is of another number of images.
        """
        self._rankings = []
        for since, difficulties in zip(state["since"], state["difficulties"], strict=True):
            self.add(since, difficulties.numpy())
        self._first = state["first"]


class CurriculumOrder(TrainingOrder):
    """Batches without end of the images that are in by then, easiest first.

    Samples are drawn in rounds. A round that begins with sample n, at iteration ``t = n // B``, is
    a permutation of the easiest ``pacing.num_images(t, N)`` images (at least B, so that a batch
    need not hold one twice) under the ranking of iteration t, of all images where there is none
    yet; the next round begins behind it. So whatever is in is drawn once a round, newcomers wait
    for the next round, and once all are in rounds are what epochs are without a curriculum.
    Iterations and processes share out samples as in :class:`TrainingOrder`.

    It is a function of its arguments and of the rankings: a run that is resumed with the same
    rankings goes on with the same images.

    Args:
        rankings: how difficult the images are. One that is added while batches are drawn must hold
            for iterations only that have not been drawn yet, ahead of time neither.
        pacing: how many images are in.
        batch_size, seed, start_iter, rank, world_size: see :class:`TrainingOrder`.
    """

    def __init__(
        self,
        rankings: Rankings,
        pacing: Pacing,
        batch_size: int,
        seed: int,
        start_iter: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(rankings.num_images, batch_size, seed, start_iter, rank, world_size)
        self.rankings = rankings
        self.pacing = pacing
        self._round: _Round | None = None

    def copy(self) -> CurriculumOrder:
        """The same order of the same rankings, to look up iterations while this one is drawn."""
        return CurriculumOrder(
            self.rankings,
            self.pacing,
            self.batch_size,
            self.seed,
            self.start_iter,
            self.rank,
            self.world_size,
        )

    def images(self, iteration: int) -> np.ndarray:
        """Indices ``[B]`` of the images that all processes together see at ``iteration``."""
        first = iteration * self.batch_size
        return np.array([self._image(n) for n in range(first, first + self.batch_size)])

    def num_images_in(self, iteration: int) -> int:
        """Length of the round that is under way when ``iteration`` begins."""
        return self._round_of(iteration * self.batch_size).size

    def difficulties(self, iteration: int) -> np.ndarray | None:
        """``[N]``, under the ranking of the round that is under way when ``iteration`` begins."""
        ranking = self.rankings.at(self.round_began(iteration))
        return None if ranking is None else ranking.difficulties

    def round_began(self, iteration: int) -> int:
        """The iteration in which the round began that is under way when ``iteration`` begins."""
        return self._round_of(iteration * self.batch_size).first // self.batch_size

    def _image(self, number: int) -> int:
        current = self._round_of(number)
        if current.images is None:
            current.images = self._permutation(current.number, current.size)
            ranking = self.rankings.at(current.first // self.batch_size)
            if ranking is not None:
                current.images = ranking.easiest_first[current.images]
        return int(current.images[number - current.first])

    def _round_of(self, number: int) -> _Round:
        """The round that holds sample ``number``; nearly always the last one or the next."""
        current = self._round
        if current is None or number < current.first:
            current = _Round(0, 0, self._round_size(0))
        while number >= current.first + current.size:
            first = current.first + current.size
            current = _Round(current.number + 1, first, self._round_size(first))
        self._round = current
        return current

    def _round_size(self, first: int) -> int:
        iteration = first // self.batch_size
        if self.rankings.at(iteration) is None:
            return self.num_images
        wanted = self.pacing.num_images(iteration, self.num_images)
        return min(self.num_images, max(wanted, self.batch_size))


@dataclass
class _Round:
    number: int
    first: int
    size: int
    images: np.ndarray | None = None


def build_training_order(
    cfg: CfgNode,
    dicts: Sequence[dict[str, Any]],
    batch_size: int,
    seed: int,
    start_iter: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> TrainingOrder:
    """The order in which training draws the images of these data set dicts.

    Without ``CURRICULUM.DIFFICULTY`` it is a :class:`TrainingOrder`. With "loss" the
    :class:`CurriculumOrder` has no ranking yet: whoever measures the losses adds to its
    ``rankings`` (:class:`slotseg.engine.hooks.Curriculum`).

    Raises:
        ConfigError: ``CURRICULUM`` holds a value that cannot work, or the set does not list what
            the difficulty is read off.
    """
    measure = cfg.CURRICULUM.DIFFICULTY
    if not measure:
        return TrainingOrder(len(dicts), batch_size, seed, start_iter, rank, world_size)
    check_measure(measure)
    check_labels_are_read(cfg)
    rankings = Rankings(len(dicts), seed)
    if measure != LOSS:
        rankings.add(0, image_difficulties(dicts, measure, seed))
    return CurriculumOrder(
        rankings, Pacing.from_config(cfg), batch_size, seed, start_iter, rank, world_size
    )
