"""Score the model while it trains, and at the end."""

from __future__ import annotations

import math
import os
from itertools import islice

from detectron2.engine.train_loop import HookBase
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from torch import nn

from slotseg.engine.checkpoint_teacher import STUDENT
from slotseg.engine.hooks.schedule import is_due
from slotseg.engine.inference import inference_mode
from slotseg.engine.results import (
    RESULTS_FILE,
    Results,
    flatten_results,
    format_results,
    write_results,
)
from slotseg.engine.rng import forked_rng


class Evaluation(HookBase):
    """Runs the trainer's ``test`` every ``period`` iterations and after the last one.

    With a teacher that is the model that is scored, and the student, if wanted, besides: its scores
    are named ``student/<score>``.

    It draws its randomness from a generator of its own, so that the weights do not depend on
    whether or how often they are scored. ``results.json`` is written once training is complete;
    its presence means that the run is finished.

    Args:
        period: iterations; 0: only at the end.
        seed: for randomness in inference (sampled initial slots).
        with_student: score a student besides its teacher.
    """

    def __init__(self, period: int, seed: int, *, with_student: bool = True) -> None:
        self._period = period
        self._seed = seed
        self._with_student = with_student

    def before_train(self) -> None:
        trainer = self.trainer
        if trainer.start_iter < trainer.max_iter:
            with forked_rng(self._seed), inference_mode(trainer.plain_model) as model:
                for name in trainer.cfg.DATASETS.TEST:
                    self._rehearse(name, model)
        path = os.path.join(trainer.cfg.OUTPUT_DIR, RESULTS_FILE)
        if comm.is_main_process() and PathManager.exists(path):
            PathManager.rm(path)

    def after_step(self) -> None:
        if is_due(self.trainer.iter, self._period, self.trainer.max_iter):
            self._evaluate()
            self.trainer.evaluated_at = self.trainer.iter
            self._log_scalars()

    def after_train(self) -> None:
        trainer = self.trainer
        if trainer.iter < trainer.max_iter:
            return
        if trainer.evaluated_at != trainer.max_iter - 1:
            # Killed between the last checkpoint and results.json.
            self._evaluate()
        if comm.is_main_process():
            write_results(trainer.results, os.path.join(trainer.cfg.OUTPUT_DIR, RESULTS_FILE))

    def _rehearse(self, name: str, model: nn.Module) -> None:
        """Score one batch: a test set that is missing or lacks masks shows now, not in an hour."""
        evaluator = self.trainer.build_evaluator(self.trainer.cfg, name)
        evaluator.reset()
        for batch in islice(self.trainer.build_test_loader(self.trainer.cfg, name), 1):
            evaluator.process(batch, model(batch))

    def _evaluate(self) -> None:
        # The files that an evaluation leaves are to be those of the model that is shipped.
        of_student: Results = {}
        if self._with_student and self.trainer.teacher is not None:
            self.trainer.logger.info("Scoring the student, then its teacher")
            of_student = self._score(self.trainer.plain_model)
        results = self._score(self.trainer.shipped_model)
        for name, tasks in of_student.items():
            results[name] |= {f"{STUDENT}/{task}": scores for task, scores in tasks.items()}
        self.trainer.results = results
        # The slowest rank sets the pace; nobody runs ahead into the next step's collectives.
        comm.synchronize()
        if comm.is_main_process() and self.trainer.results:
            self.trainer.logger.info(
                f"Scores after {self.trainer.steps_done} iterations:\n"
                + format_results(self.trainer.results)
            )

    def _score(self, model: nn.Module) -> Results:
        with forked_rng(self._seed):
            return self.trainer.test(self.trainer.cfg, model)

    def _log_scalars(self) -> None:
        results = self.trainer.results
        for name, scores in results.items():
            prefix = f"{name}/" if len(results) > 1 else ""
            for key, value in flatten_results(scores).items():
                if math.isfinite(value):
                    self.trainer.storage.put_scalar(prefix + key, value, smoothing_hint=False)
