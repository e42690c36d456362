"""Keep the weights that scored best."""

from __future__ import annotations

import logging
import math
from typing import Any

from detectron2.engine.train_loop import HookBase
from detectron2.utils import comm

from slotseg.engine.checkpoint import BEST
from slotseg.engine.checkpoint_teacher import STUDENT, TEACHER
from slotseg.engine.results import flatten_results

_logger = logging.getLogger(__name__)


class BestCheckpoint(HookBase):
    """After each evaluation saves ``model_best.pth`` if ``metric`` rose above its best so far.

    The best value is part of the training state, so that a resumed run does not replace a better
    model by its first one. The file holds weights, the score and the config, no optimiser. With a
    teacher they are the teacher's, which is the model that is scored; the student's only for a
    metric ``student/...``.

    Args:
        metric: name of a score of the first test set, such as ``slots/ARI``; higher is better.
    """

    def __init__(self, metric: str) -> None:
        self._metric = metric
        self._value: float | None = None
        self._iteration: int | None = None

    def after_step(self) -> None:
        trainer = self.trainer
        if trainer.evaluated_at != trainer.iter or not comm.is_main_process():
            return
        scores = flatten_results(next(iter(trainer.results.values()), {}))
        if self._metric not in scores:
            if scores:
                _logger.warning(
                    f"TEST.BEST_METRIC: no score {self._metric!r}, so {BEST}.pth is not saved; "
                    f"choose from {', '.join(scores)}"
                )
            return
        value = scores[self._metric]
        if math.isnan(value) or (self._value is not None and value <= self._value):
            return
        self._value, self._iteration = value, trainer.iter
        _logger.info(f"Best {self._metric} so far: {value:.4f} (iteration {trainer.iter + 1})")
        of_student = trainer.teacher is None or self._metric.startswith(f"{STUDENT}/")
        trainer.checkpointer.save_weights(
            BEST,
            model=trainer.plain_model if of_student else trainer.teacher.model,
            weights_of=STUDENT if of_student else TEACHER,
            iteration=trainer.iter,
            best={"metric": self._metric, "value": value},
            **trainer.provenance(),
        )

    def state_dict(self) -> dict[str, Any]:
        return {"metric": self._metric, "value": self._value, "iteration": self._iteration}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["metric"] == self._metric:
            self._value, self._iteration = state["value"], state["iteration"]
