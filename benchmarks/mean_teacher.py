#!/usr/bin/env python
"""What a teacher costs: processor seconds of its update and of its labels, beside the step itself.

The student's step is everything that it would also do without a teacher: losses of labelled and
pseudo-labelled images, their gradients, the optimiser. The teacher's update is measured twice, as
it is done here (all tensors in one go, frozen weights shared) and through state dicts, as usual.

Prints a table, then the same figures as one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2

import torch  # isort: skip
from detectron2.utils.events import EventStorage
from tabulate import tabulate
from torch import nn
from tqdm import tqdm

from slotseg import get_cfg
from slotseg.data import TrainingBatch
from slotseg.engine.cli import mark_overrides, user_errors
from slotseg.engine.mean_teacher import build_teacher
from slotseg.engine.precision import build_autocast
from slotseg.engine.rng import seed_all
from slotseg.engine.trainer import Trainer

_WARM_UP = 2


class Run:
    """A student, its teacher and their batches."""

    def __init__(self, config: str, steps: int, overrides: list[str]) -> None:
        cfg = get_cfg(config, overrides)
        cfg.MODEL.DEVICE, cfg.DATALOADER.NUM_WORKERS = "cpu", 0
        cfg.MEAN_TEACHER.ENABLED = True
        # From the first step on and at full weight.
        cfg.SEMI.START = cfg.SEMI.RAMP = 0
        seed_all(0)
        self.student = Trainer.build_model(cfg).train()
        self.teacher = build_teacher(cfg, self.student, Trainer.build_model)
        # What usual teachers are: a copy of everything.
        self.copy = Trainer.build_model(cfg)
        self.optimizer = Trainer.build_optimizer(cfg, self.student)
        self.labeller = Trainer.build_labeller(cfg)
        self.autocast = build_autocast(cfg, torch.device("cpu"))
        self.batches = list(islice(Trainer.build_train_loader(cfg), steps))
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def step(self, index: int) -> None:
        """One iteration; adds to ``seconds``."""
        batch = TrainingBatch.of(self.batches[index])
        parts = [batch.labeled]
        if batch.unlabeled and self.labeller is not None:
            with self._timed("labels"), self.autocast(), EventStorage():
                parts.append(self.labeller(self.teacher.model, batch.unlabeled, batch.labeled))
        with self._timed("student"):
            self.optimizer.zero_grad(set_to_none=True)
            for images in parts:
                with EventStorage(), self.autocast():
                    total = sum(self.student(images).values())
                total.backward()
            self.optimizer.step()
        with self._timed("update"):
            self.teacher.update()
        with self._timed("state_dicts"):
            update_by_state_dicts(self.copy, self.student, 0.999)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.process_time()
        yield
        self.seconds[name].append(time.process_time() - began)


@torch.no_grad()
def update_by_state_dicts(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    """The usual way: every tensor by itself, frozen ones too, then loaded."""
    new = student.state_dict()
    old = teacher.state_dict()
    teacher.load_state_dict({k: v * decay + new[k] * (1.0 - decay) for k, v in old.items()})


def main() -> None:
    """Build, step, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", nargs="+", required=True, metavar="FILE")
    parser.add_argument("--steps", type=int, default=10, metavar="N", help="default 10")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default 1")
    parser.add_argument("opts", nargs="*", help="options for all configs, at the end: KEY VALUE")
    args = parser.parse_args(mark_overrides(sys.argv[1:]))
    if args.steps < 1:
        parser.error("--steps: at least 1")
    torch.set_num_threads(args.threads)
    results = []
    for config in args.configs:
        with user_errors():
            run = Run(config, _WARM_UP + args.steps, args.opts)
            for index in tqdm(range(_WARM_UP + args.steps), desc=config, disable=None):
                run.step(index)
        medians = {k: statistics.median(v[_WARM_UP:]) for k, v in run.seconds.items()}
        results.append(
            {
                "model": re.sub(r".*/|\.yaml$", "", config),
                "student_s": round(medians["student"], 4),
                "labels_s": round(medians["labels"], 4) if "labels" in medians else None,
                "update_s": round(medians["update"], 5),
                "by_state_dicts_s": round(medians["state_dicts"], 5),
                "update_percent": round(100.0 * medians["update"] / medians["student"], 2),
                "by_state_dicts_percent": round(
                    100.0 * medians["state_dicts"] / medians["student"], 2
                ),
            }
        )
    print(tabulate([row.values() for row in results], results[0].keys(), tablefmt="github"))
    about = {"benchmark": "mean_teacher", "threads": args.threads, "steps": args.steps}
    print(json.dumps(about | {"results": results}))


if __name__ == "__main__":
    main()
