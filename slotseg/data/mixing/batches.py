"""Mixing as the config has it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils.logger import log_first_n

from slotseg.data.batch import TrainingBatch
from slotseg.data.mixing.mixes import CutMix, Mix, Mosaic
from slotseg.data.mixing.schedule import Schedule
from slotseg.data.mixing.segments import Remains
from slotseg.data.sampling import mixing_generator
from slotseg.errors import ConfigError

# In the order in which they are done, with the number of their random numbers, which are the same
# whether the other kind is on or not.
_KINDS = {"MOSAIC": 1, "CUTMIX": 0}


@dataclass(frozen=True)
class ScheduledMix:
    """A kind of mixing and when it is done.

    Attributes:
        name: as the log calls it.
        mix: what is done.
        schedule: with which probability.
        stream: of random numbers, a number of its own.
    """

    name: str
    mix: Mix
    schedule: Schedule
    stream: int


class BatchMixing:
    """Mixes the parts of a training batch, one kind of mixing after the other.

    The result is a function of the batch, the seed, the iteration and the process; nothing has to
    be saved. Labelled and pseudo-labelled images stay among themselves.

    Args:
        mixes: in the order in which they are done.
        seed: not negative.
        labeled, pseudo: which parts.
    """

    def __init__(
        self, mixes: Sequence[ScheduledMix], seed: int, labeled: bool = True, pseudo: bool = True
    ) -> None:
        self.mixes = tuple(mixes)
        self.seed = seed
        self.labeled = labeled
        self.pseudo = pseudo

    def __call__(self, batch: TrainingBatch, iteration: int, rank: int = 0) -> TrainingBatch:
        """Mix a batch as process ``rank`` does it at ``iteration``; the batch stays as it is.

        Raises:
            ConfigError: images of different sizes.
            DatasetError: images without truth, or only some of them with classes.
        """
        if self.labeled:
            batch = replace(batch, labeled=self._mix(batch.labeled, iteration, rank, part=0))
        if self.pseudo:
            batch = replace(batch, pseudo=self._mix(batch.pseudo, iteration, rank, part=1))
        return batch

    def probabilities(self, iteration: int) -> dict[str, float]:
        """Share of the images that are mixed at an iteration, by the name of the mix."""
        return {one.name: one.schedule.at(iteration) for one in self.mixes}

    def _mix(
        self, dicts: list[dict[str, Any]], iteration: int, rank: int, part: int
    ) -> list[dict[str, Any]]:
        for one in self.mixes:
            probability = one.schedule.at(iteration)
            if not probability or not dicts:
                continue
            if len(dicts) == 1:
                _warn_once(
                    f"MIXING: a process has one {('labelled', 'unlabelled')[part]} image at a "
                    "time, which has no other to be mixed with; raise "
                    f"{('SOLVER', 'SEMI')[part]}.IMS_PER_BATCH"
                )
            rng = mixing_generator(self.seed, iteration, rank, part, one.stream)
            dicts = one.mix(dicts, rng, probability)
        return dicts


def build_mixing(cfg: CfgNode) -> BatchMixing | None:
    """What ``cfg.MIXING`` describes; None where both probabilities are 0.

    Mosaics come first: the box of CutMix then is whole, and its image may be a mosaic.

    Raises:
        ConfigError: a value makes no sense, or nothing would be mixed or could be.
    """
    node = cfg.MIXING
    schedules = {name: _schedule(cfg, name) for name in _KINDS}
    if not any(schedule.probability for schedule in schedules.values()):
        return None
    _check(cfg)
    remains = Remains(node.MIN_AREA, node.MIN_SHARE)
    mixes = {
        "MOSAIC": Mosaic(node.MOSAIC.CENTER, node.MOSAIC.SCALE, remains),
        "CUTMIX": CutMix(node.CUTMIX.ALPHA, remains),
    }
    scheduled = []
    for name, schedule in schedules.items():
        if not schedule.probability:
            continue
        if not schedule.ever:
            _warn_once(
                f"MIXING.{name}: ends (iteration {schedule.end}) before it begins, so nothing is "
                "mixed; lower START or raise END"
            )
        scheduled.append(ScheduledMix(name.lower(), mixes[name], schedule, _KINDS[name]))
    return BatchMixing(scheduled, max(cfg.SEED, 0), node.LABELED, node.PSEUDO)


def _schedule(cfg: CfgNode, name: str) -> Schedule:
    node = cfg.MIXING[name]
    if not 0 <= node.PROBABILITY <= 1:
        raise ConfigError(f"MIXING.{name}.PROBABILITY is {node.PROBABILITY}, expected 0 to 1")
    for key in ("START", "RAMP"):
        if node[key] < 0:
            raise ConfigError(f"MIXING.{name}.{key} is {node[key]}, it must be 0 or more")
    end = None
    if node.END:
        end = node.END if node.END > 0 else max(cfg.SOLVER.MAX_ITER + node.END, 0)
    return Schedule(node.PROBABILITY, node.START, node.RAMP, end)


def _check(cfg: CfgNode) -> None:
    node = cfg.MIXING
    if node.MIN_AREA < 0:
        raise ConfigError(f"MIXING.MIN_AREA is {node.MIN_AREA}, it must be 0 pixels or more")
    if not 0 <= node.MIN_SHARE <= 1:
        raise ConfigError(f"MIXING.MIN_SHARE is {node.MIN_SHARE}, expected 0 to 1")
    if not node.LABELED and not node.PSEUDO:
        raise ConfigError(
            "MIXING.LABELED and MIXING.PSEUDO are both False, so nothing would be mixed; set one "
            "of them, or MIXING.CUTMIX.PROBABILITY and MIXING.MOSAIC.PROBABILITY to 0"
        )
    if not node.LABELED and not cfg.SEMI.IMS_PER_BATCH:
        _warn_once(
            "MIXING.LABELED is False and SEMI.IMS_PER_BATCH 0, so nothing is mixed; set one of "
            "them, or MIXING.CUTMIX.PROBABILITY and MIXING.MOSAIC.PROBABILITY to 0"
        )
    if node.LABELED and not cfg.DATASETS.TRAIN_LABELS:
        raise ConfigError(
            "MIXING.LABELED is True, but DATASETS.TRAIN_LABELS is False and there are no segments "
            "to mix; set one of them the other way"
        )
    if cfg.MODEL.VIT.CACHE:
        raise ConfigError(
            "MODEL.VIT.CACHE holds maps of whole images, not of mixed ones; leave it empty, or set "
            "MIXING.CUTMIX.PROBABILITY and MIXING.MOSAIC.PROBABILITY to 0"
        )


def _warn_once(message: str) -> None:
    log_first_n(logging.WARNING, message, n=1, name=__name__, key="message")
