#!/usr/bin/env python
"""Processor seconds of a training step of several models, side by side in one process.

Every model takes a step in turn, on the same images where the configs name the same data. Batches
are made before; the forward pass with the losses and the rest of the step are told apart.

Prints a table, then the same figures as one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import time
from itertools import islice

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2

import torch  # isort: skip
from detectron2.utils.events import EventStorage
from tabulate import tabulate
from tqdm import tqdm

from slotseg import get_cfg
from slotseg.engine.cli import mark_overrides, user_errors
from slotseg.engine.precision import build_autocast
from slotseg.engine.rng import seed_all
from slotseg.engine.trainer import Trainer

_WARM_UP = 1


class Side:
    """A model in training, its optimiser and its batches."""

    def __init__(self, config: str, steps: int, overrides: list[str]) -> None:
        cfg = get_cfg(config, overrides)
        cfg.MODEL.DEVICE, cfg.DATALOADER.NUM_WORKERS = "cpu", 0
        seed_all(0)
        self.model = Trainer.build_model(cfg).train()
        self.optimizer = Trainer.build_optimizer(cfg, self.model)
        self.autocast = build_autocast(cfg, torch.device("cpu"))
        self.batches = list(islice(Trainer.build_train_loader(cfg), steps))

    def step(self, index: int) -> tuple[float, float]:
        """Processor seconds forward, and of the rest."""
        began = time.process_time()
        with EventStorage(), self.autocast():
            total = sum(self.model(self.batches[index]).values())
        forward = time.process_time() - began
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.optimizer.step()
        return forward, time.process_time() - began - forward


def main() -> None:
    """Build the models, take turns, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", nargs="+", required=True, metavar="FILE")
    parser.add_argument("--steps", type=int, default=4, metavar="N", help="turns (default 4)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default 1")
    parser.add_argument("opts", nargs="*", help="options for all configs, at the end: KEY VALUE")
    args = parser.parse_args(mark_overrides(sys.argv[1:]))
    if args.steps < 1:
        parser.error("--steps: at least 1")
    torch.set_num_threads(args.threads)
    steps = _WARM_UP + args.steps
    with user_errors():
        sides = [Side(config, steps, args.opts) for config in args.configs]
        times: list[list[tuple[float, float]]] = [[] for _ in sides]
        for index in tqdm(range(steps), desc="steps", disable=None):
            for side, rows in zip(sides, times, strict=True):
                rows.append(side.step(index))
    results = []
    for config, rows in zip(args.configs, times, strict=True):
        forward, rest = (statistics.median(c) for c in zip(*rows[_WARM_UP:], strict=True))
        results.append(
            {
                "model": re.sub(r".*/|\.yaml$", "", config),
                "forward": round(forward, 3),
                "backward": round(rest, 3),
                "step": round(forward + rest, 3),
            }
        )
    print(tabulate([row.values() for row in results], results[0].keys(), tablefmt="github"))
    about = {"benchmark": "step_time", "threads": args.threads, "steps": args.steps}
    print(json.dumps(about | {"results": results}))


if __name__ == "__main__":
    main()
