"""Save the whole training state every so often, and at the end."""

from __future__ import annotations

from detectron2.engine.train_loop import HookBase
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from slotseg.engine.checkpoint import FINAL
from slotseg.engine.checkpoint_files import periodic_files
from slotseg.engine.hooks.schedule import is_due
from slotseg.errors import ConfigError


class PeriodicCheckpoint(HookBase):
    """Saves ``model_<iteration>.pth`` every ``period`` iterations and ``model_final.pth``.

    Must be the last hook that changes any state: what runs before it in an iteration is in the
    checkpoint, so that a run killed just before it does that part again.

    Args:
        period: iterations; 0: only at the end.
        keep: how many periodic checkpoints stay on disk.

    Raises:
        ConfigError: ``keep`` below 2; one damaged file would leave nothing to go back to.
    """

    def __init__(self, period: int, keep: int) -> None:
        if keep < 2:
            raise ConfigError(
                f"SOLVER.CHECKPOINTS_KEPT: must be at least 2, got {keep}; with a single one a "
                "damaged file would end the run"
            )
        self._period = period
        self._keep = keep

    def is_due(self, iteration: int) -> bool:
        """Whether this iteration ends with a checkpoint."""
        return is_due(iteration, self._period, self.trainer.max_iter)

    def after_step(self) -> None:
        iteration = self.trainer.iter
        if not self.is_due(iteration):
            return
        last = iteration + 1 >= self.trainer.max_iter
        self.trainer.save_checkpoint(FINAL if last else f"model_{iteration:07d}")
        if comm.is_main_process():
            self._remove_old(iteration)

    def _remove_old(self, iteration: int) -> None:
        # Files of later iterations stem from a run that went on from an older checkpoint; they
        # are written again when it gets there.
        reached = [p for i, p in periodic_files(self.trainer.cfg.OUTPUT_DIR) if i <= iteration]
        for path in reached[self._keep :]:
            PathManager.rm(path)
