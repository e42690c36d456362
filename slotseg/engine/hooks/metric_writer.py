"""Hand the logged scalars to the writers (JSON, TensorBoard, terminal)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from detectron2.engine.train_loop import HookBase
from detectron2.utils.events import EventWriter

from slotseg.engine.hooks.schedule import is_due


class MetricWriter(HookBase):
    """Writes every ``period`` iterations, at the end, and before every checkpoint.

    The last matters for a run that is killed: scalars of iterations up to the checkpoint would
    otherwise be lost, since the resumed run does not compute them again.

    Args:
        build_writers: makes Detectron2's event writers; called when training begins, since only
            then the first iteration is known.
        period: iterations.
        also_at: says of an iteration whether a checkpoint follows.
    """

    def __init__(
        self,
        build_writers: Callable[[], Sequence[EventWriter]],
        period: int,
        also_at: Callable[[int], bool],
    ) -> None:
        self._build_writers = build_writers
        self._writers: Sequence[EventWriter] = ()
        self._period = period
        self._also_at = also_at

    def before_train(self) -> None:
        self._writers = self._build_writers()

    def after_step(self) -> None:
        iteration = self.trainer.iter
        if is_due(iteration, self._period, self.trainer.max_iter) or self._also_at(iteration):
            for writer in self._writers:
                writer.write()

    def after_train(self) -> None:
        for writer in self._writers:
            writer.close()
