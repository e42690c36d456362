"""Easy images first: tell how far it has come and, for the model's own loss, measure it."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.engine.train_loop import HookBase
from detectron2.utils import comm

from slotseg.data import TrainingBatch, hardest, training_images
from slotseg.data.curriculum import CurriculumOrder
from slotseg.data.difficulty import LOSS, ImageDifficulty
from slotseg.data.pacing import Pacing
from slotseg.engine.image_losses import measure_image_losses
from slotseg.errors import ConfigError
from slotseg.files import write_atomically

DIFFICULTY_FILE = "image_difficulty.csv"

_logger = logging.getLogger(__name__)


class Curriculum(HookBase):
    """Watches a :class:`slotseg.data.curriculum.CurriculumOrder`, and tells it the losses.

    Every iteration it logs ``curriculum/share``, the share of the images that are in, and
    ``curriculum/difficulty``, the mean difficulty of those that all processes see in it, in the
    unit of the difficulty. ``OUTPUT_DIR/image_difficulty.csv`` lists all images, the hardest first.

    With ``CURRICULUM.DIFFICULTY`` "loss" it measures the loss on every labelled image each
    ``period`` iterations, before the step, so that the time counts as training time; from the next
    round on the images are ranked by it, for which the data are opened anew. The measurements that
    are still in use are part of the training state.

    Args:
        cfg: ``CURRICULUM``, and the data.
        period: iterations between two measurements.

    Raises:
        ConfigError: "loss" that would never be measured.
    """

    def __init__(self, cfg: CfgNode, period: int) -> None:
        self._cfg = cfg
        self._period = period
        self._measures = cfg.CURRICULUM.DIFFICULTY == LOSS
        if self._measures and period < 1:
            raise ConfigError(
                "CURRICULUM.DIFFICULTY 'loss' is never measured; set CURRICULUM.PERIOD (iterations)"
                " or CURRICULUM.EPOCHS to 1 or more"
            )
        end = Pacing.from_config(cfg).end
        if self._measures and period >= end:
            _logger.warning(
                f"CURRICULUM: losses would be measured every {period} iterations, but all images "
                f"are in from iteration {end} on, so there is no curriculum; lower "
                "CURRICULUM.PERIOD, or raise END or END_ITER"
            )
        # Lists of segments would be kept, and shared with every data worker, for nothing.
        self._images = [{"file_name": entry["file_name"]} for entry in training_images(cfg)]
        self._order: CurriculumOrder | None = None
        self._rankings: dict[str, Any] = {}

    def after_open(self, loader: Iterable[Any]) -> None:
        """Called by the trainer with the training's loader before anything is drawn from it."""
        order = getattr(loader, "order", None)
        if not isinstance(order, CurriculumOrder):
            raise ConfigError(
                f"CURRICULUM.DIFFICULTY is {self._cfg.CURRICULUM.DIFFICULTY!r}, but this training "
                "has a loader of its own, which follows no curriculum; build it with "
                "slotseg.data.build_train_loader, or leave the difficulty empty"
            )
        if self._rankings and not self._fits(order):
            self._rankings = {}
        if self._rankings:
            order.rankings.load_state_dict(self._rankings)
        if self._order is None:
            _announce(order, self._cfg.CURRICULUM.DIFFICULTY)
        # The loader's own runs ahead, as far as its workers do.
        self._order = order.copy()
        self._write_difficulties()

    def before_step(self) -> None:
        iteration, order = self.trainer.iter, self._order
        due = self._measures and iteration > 0 and iteration % self._period == 0
        if not due or iteration >= order.pacing.end:
            return
        _logger.info(f"Curriculum: measuring the losses of {len(self._images)} images")
        losses = measure_image_losses(self._cfg, self.trainer.plain_model, iteration)
        order.rankings.forget(order.round_began(iteration))
        order.rankings.add(iteration, losses)
        self._rankings = order.rankings.state_dict()
        self.trainer.reopen_data()
        worst = self.hardest(1)[0]
        _logger.info(
            f"Curriculum: median loss {np.median(losses):.3f}, hardest {worst.difficulty:.3f} "
            f"({worst.file_name})"
        )

    def after_draw(self, batch: TrainingBatch) -> TrainingBatch:
        """Called by the trainer with every batch, which stays as it is."""
        iteration, order, put = self.trainer.iter, self._order, self.trainer.storage.put_scalar
        share = order.num_images_in(iteration) / order.num_images
        put("curriculum/share", share, smoothing_hint=False)
        difficulties = order.difficulties(iteration)
        if difficulties is not None:
            drawn = difficulties[order.images(iteration)]
            drawn = drawn[np.isfinite(drawn)]
            if drawn.size:
                put("curriculum/difficulty", float(drawn.mean()))
        return batch

    def hardest(self, count: int | None = None) -> list[ImageDifficulty]:
        """The hardest labelled images as far as is known, the hardest first; None: all."""
        known = None if self._order is None else self._order.rankings.latest
        return [] if known is None else hardest(self._images, known, count)

    def state_dict(self) -> dict[str, Any]:
        return self._rankings

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self._measures:
            self._rankings = state

    def _fits(self, order: CurriculumOrder) -> bool:
        known = len(self._rankings["difficulties"][-1])
        if known != order.num_images:
            _logger.warning(
                f"The checkpoint knows the losses of {known} images, now there are "
                f"{order.num_images}: all of them are in until they are measured again"
            )
        return known == order.num_images

    def _write_difficulties(self) -> None:
        listed = self.hardest()
        if not listed or not comm.is_main_process():
            return
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerows([ImageDifficulty._fields, *listed])
        write_atomically(os.path.join(self._cfg.OUTPUT_DIR, DIFFICULTY_FILE), text.getvalue())


def _announce(order: CurriculumOrder, difficulty: str) -> None:
    pacing, unknown = order.pacing, order.rankings.latest is None
    _logger.info(
        f"Curriculum by {difficulty}: {'all until it is measured, then ' if unknown else ''}from "
        f"{pacing.start_share:.0%} of {order.num_images} images ({pacing.kind}) to all of them "
        f"from iteration {pacing.end} on"
    )
