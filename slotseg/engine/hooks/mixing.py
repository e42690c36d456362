"""Mix the images of each batch."""

from __future__ import annotations

from detectron2.engine.train_loop import HookBase
from detectron2.utils import comm

from slotseg.data import TrainingBatch
from slotseg.data.mixing import BatchMixing


class Mixing(HookBase):
    """Mixes what was drawn: after a teacher has labelled its part, before the model sees it.

    Logs ``mixing/<name>``, the share of images that are mixed at the moment. It keeps nothing: what
    it does depends on the seed, the iteration and the process alone.

    Args:
        mixing: see :func:`slotseg.data.mixing.build_mixing`.
    """

    def __init__(self, mixing: BatchMixing) -> None:
        self._mixing = mixing

    def after_draw(self, batch: TrainingBatch) -> TrainingBatch:
        """Called by the trainer with every batch."""
        trainer = self.trainer
        for name, share in self._mixing.probabilities(trainer.iter).items():
            trainer.storage.put_scalar(f"mixing/{name}", share, smoothing_hint=False)
        return self._mixing(batch, trainer.iter, comm.get_rank())
