"""What a run was: command, seed, versions, machine, time."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from detectron2.engine.train_loop import HookBase
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from slotseg.engine.clocks import processor_seconds
from slotseg.engine.run_info import command_line, machine, versions
from slotseg.files import write_atomically

RUN_FILE = "run.json"


class RunRecord(HookBase):
    """Writes ``run.json`` and ``config.yaml`` at the start and completes ``run.json`` at the end.

    ``train_seconds`` is the wall time of the training steps that led to the weights, waiting for
    data included, evaluation, monitoring and saving excluded; ``total_seconds`` includes them.
    ``processor_seconds`` is the processor time of the same steps, that of the data workers
    included (of this rank's process alone, if there are several).
    All are part of the training state: they add up over resumes, and steps that a kill undid do
    not count. Must be the first hook, but for those whose work after a step is part of the step.

    Args:
        also_at: says of an iteration whether ``run.json`` is brought up to date after it.
    """

    def __init__(self, also_at: Callable[[int], bool]) -> None:
        self._also_at = also_at
        self._train_seconds = 0.0
        self._processor_seconds = 0.0
        self._total_seconds = 0.0
        self._started = ""
        self._step_began = 0.0
        self._processor_began = 0.0
        self._last_seen = time.perf_counter()

    def before_train(self) -> None:
        self._started = self._started or _now()
        self._last_seen = time.perf_counter()
        if comm.is_main_process():
            config = os.path.join(self.trainer.cfg.OUTPUT_DIR, "config.yaml")
            write_atomically(config, self.trainer.cfg.dump())
            self._write(finished=None)

    def before_step(self) -> None:
        self._step_began = time.perf_counter()
        self._processor_began = processor_seconds()

    def after_step(self) -> None:
        self._train_seconds += time.perf_counter() - self._step_began
        # Never negative: the time of a worker that ends is rounded anew.
        self._processor_seconds += max(0.0, processor_seconds() - self._processor_began)
        if comm.is_main_process() and self._also_at(self.trainer.iter):
            self._write(finished=None)

    def after_train(self) -> None:
        if comm.is_main_process():
            complete = self.trainer.iter >= self.trainer.max_iter
            self._write(finished=_now() if complete else None)

    def state_dict(self) -> dict[str, Any]:
        self._count()
        return {
            "train_seconds": self._train_seconds,
            "processor_seconds": self._processor_seconds,
            "total_seconds": self._total_seconds,
            "started": self._started,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._train_seconds = state["train_seconds"]
        # Checkpoints of before know of no processor.
        self._processor_seconds = state.get("processor_seconds", 0.0)
        self._total_seconds = state["total_seconds"]
        self._started = state["started"]

    def _count(self) -> None:
        now = time.perf_counter()
        self._total_seconds += now - self._last_seen
        self._last_seen = now

    def _write(self, finished: str | None) -> None:
        self._count()
        record = {
            "command": command_line(),
            "seed": max(self.trainer.cfg.SEED, 0),
            "iterations": self.trainer.steps_done,
            "max_iterations": self.trainer.max_iter,
            "train_seconds": round(self._train_seconds, 3),
            "processor_seconds": round(self._processor_seconds, 3),
            "total_seconds": round(self._total_seconds, 3),
            "started": self._started,
            "finished": finished,
            "processes": comm.get_world_size(),
            "parameters": sum(p.numel() for p in self.trainer.plain_model.parameters()),
            "versions": versions(),
            "machine": machine(self.trainer.device),
        }
        path = os.path.join(self.trainer.cfg.OUTPUT_DIR, RUN_FILE)
        write_atomically(path, json.dumps(record, indent=2) + "\n")


def read_run_record(output_dir: str) -> dict[str, Any]:
    """The record of the run in ``output_dir``; empty if there is none or it cannot be read."""
    path = os.path.join(output_dir, RUN_FILE)
    if not PathManager.isfile(path):
        return {}
    with PathManager.open(path, "r") as file:
        try:
            record = json.load(file)
        except ValueError:
            return {}
    return record if isinstance(record, dict) else {}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
