"""A bar with the time left, for people who watch."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import ExitStack

from detectron2.engine.train_loop import HookBase
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

LOGGERS = ("slotseg", "detectron2", "fvcore")
_SECONDS_BETWEEN_VALUES = 1.0


def terminal_is_watched() -> bool:
    """Whether progress goes to a terminal; logs and pipes get lines instead of a bar."""
    return sys.stderr.isatty()


class ProgressBar(HookBase):
    """tqdm with the iteration, time left, total loss and learning rate; log lines go above it."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._resources = ExitStack()
        self._shown_at = 0.0

    def before_train(self) -> None:
        self._bar = tqdm(
            desc="training",
            total=self.trainer.max_iter,
            initial=self.trainer.start_iter,
            unit="it",
            dynamic_ncols=True,
        )
        self._resources.enter_context(self._bar)
        self._resources.enter_context(
            logging_redirect_tqdm([logging.getLogger(name) for name in LOGGERS])
        )

    def after_step(self) -> None:
        now = time.monotonic()
        if now - self._shown_at > _SECONDS_BETWEEN_VALUES:
            self._shown_at = now
            latest = self.trainer.storage.latest()
            values = {"loss": latest["total_loss"][0], "lr": latest["lr"][0]}
            self._bar.set_postfix({k: f"{v:.3g}" for k, v in values.items()}, refresh=False)
        self._bar.update()

    def after_train(self) -> None:
        self._resources.close()
