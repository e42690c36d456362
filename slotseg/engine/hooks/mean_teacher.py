"""Let a teacher follow the model, and label the images that have no labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from detectron2.engine.train_loop import HookBase
from detectron2.utils import comm
from torch import nn

from slotseg.data import TrainingBatch
from slotseg.engine.inference import inference_mode
from slotseg.engine.mean_teacher import Teacher
from slotseg.engine.rng import forked_rng

# Tells these random numbers from all others that are drawn from the same seed.
_STREAM = 20


class Labeller(Protocol):
    """Makes labels of what a teacher sees, such as :class:`slotseg.semi.PseudoLabeller`."""

    def __call__(
        self,
        teacher: nn.Module,
        unlabeled: list[dict[str, Any]],
        labeled: list[dict[str, Any]],
    ) -> list[dict[str, Any]]:
        """One pseudo-labelled dict for every unlabelled one; with the labelled ones of the step to
        compare with.
        """

    def weight(self, iteration: int) -> float:
        """Weight of the losses on them; 0: none are wanted."""


class MeanTeacher(HookBase):
    """After every step the teacher follows the student; before it, it labels unlabelled images.

    Must come before all hooks that score or save. The labels of an iteration depend on the
    teacher's weights, the seed, the iteration and the process alone; the student's random numbers
    are what they would be without a teacher.

    Args:
        teacher: of the model that is trained.
        labeller: None: unlabelled images stay unlabelled. Its state, where it has one, is saved
            with the hook's.
        seed: not negative.
    """

    def __init__(self, teacher: Teacher, labeller: Labeller | None, seed: int) -> None:
        self._teacher = teacher
        self._labeller = labeller
        self._seed = seed

    def before_train(self) -> None:
        if self._teacher.updates == 0:
            # The student may have been given other weights since the teacher was built.
            self._teacher.copy_student()

    def after_draw(self, batch: TrainingBatch) -> TrainingBatch:
        """The batch with pseudo labels, as soon as they count."""
        if self._labeller is None or not batch.unlabeled:
            return batch
        weight = self._labeller.weight(self.trainer.iter)
        if weight <= 0.0:
            return batch
        with (
            forked_rng(self._seed_now()),
            inference_mode(self._teacher.model) as model,
            self.trainer.autocast(),
        ):
            pseudo = self._labeller(model, batch.unlabeled, batch.labeled)
        return replace(batch, pseudo=pseudo, pseudo_weight=weight)

    def after_step(self) -> None:
        decay = self._teacher.update()
        self.trainer.storage.put_scalar("teacher/decay", decay, smoothing_hint=False)

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"updates": self._teacher.updates}
        if hasattr(self._labeller, "state_dict"):
            state["labeller"] = self._labeller.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._teacher.updates = int(state["updates"])
        if "labeller" in state and hasattr(self._labeller, "load_state_dict"):
            self._labeller.load_state_dict(state["labeller"])

    def _seed_now(self) -> int:
        key = (_STREAM, self.trainer.iter, comm.get_rank())
        return int(np.random.SeedSequence(self._seed, spawn_key=key).generate_state(1)[0])
