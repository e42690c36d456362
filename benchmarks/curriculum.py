#!/usr/bin/env python
"""What ordering images by a model's own loss costs, and whether what sets list says the same.

A measurement is a pass over all labelled images, one by one and without gradients. Its processor
seconds an image are set beside those of a training step; both read their images from disk. At one
measurement every ``CURRICULUM.EPOCHS`` epochs the extra cost does not depend on the size of the
set. Then the images are ranked by every difficulty that the set lists, and the rank correlation
with the losses of the model says which of them agrees with it. Without MODEL.WEIGHTS the model has
learnt nothing but the steps that were measured.

Prints a table, then the same figures as one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2

import torch  # isort: skip
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage
from scipy.stats import spearmanr
from tabulate import tabulate

from slotseg import get_cfg
from slotseg.data import image_difficulties, training_images
from slotseg.data.difficulty import MEASURES
from slotseg.engine.checkpoint import load_weights
from slotseg.engine.cli import mark_overrides, user_errors
from slotseg.engine.image_losses import measure_image_losses
from slotseg.engine.rng import seed_all
from slotseg.engine.trainer import Trainer
from slotseg.errors import ConfigError

_WARM_UP = 2


def step_seconds(cfg: CfgNode, model: torch.nn.Module, steps: int) -> float:
    """Median processor time of a step at the learning rate 0: the weights stay as they are."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    batches = iter(Trainer.build_train_loader(cfg))
    seconds = []
    model.train()
    for _ in range(_WARM_UP + steps):
        began = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        with EventStorage():
            sum(model(next(batches)).values()).backward()
        optimizer.step()
        seconds.append(time.process_time() - began)
    return statistics.median(seconds[_WARM_UP:])


def correlations(cfg: CfgNode, losses: list[float]) -> dict[str, float]:
    """Spearman's rank correlation of the losses with each difficulty that the set lists."""
    found = {}
    for measure in MEASURES:
        try:
            listed = image_difficulties(training_images(cfg), measure)
        except ConfigError:
            continue
        found[measure] = round(float(spearmanr(listed, losses).statistic), 3)
    return found


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, metavar="FILE")
    parser.add_argument("--images", type=int, default=100, metavar="N", help="default 100")
    parser.add_argument("--steps", type=int, default=10, metavar="N", help="default 10")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default 1")
    parser.add_argument("opts", nargs="*", help="options of the config, at the end: KEY VALUE")
    args = parser.parse_args(mark_overrides(sys.argv[1:]))
    if args.steps < 1 or args.images < 2:
        parser.error("--steps: at least 1; --images: at least 2")
    torch.set_num_threads(args.threads)
    with user_errors():
        cfg = get_cfg(args.config, args.opts)
        cfg.MODEL.DEVICE, cfg.DATALOADER.NUM_WORKERS = "cpu", 0
        cfg.DATASETS.MAX_IMAGES = args.images
        seed_all(0)
        model = Trainer.build_model(cfg)
        if cfg.MODEL.WEIGHTS:
            load_weights(model, cfg.MODEL.WEIGHTS)
        step = step_seconds(cfg, model, args.steps)
        began = time.process_time()
        losses = measure_image_losses(cfg, model)
        image = (time.process_time() - began) / len(losses)
        ranks = correlations(cfg, losses.tolist())
    # An epoch has as many steps as it has images over the batch.
    epochs = cfg.CURRICULUM.EPOCHS
    extra = 100.0 * image * cfg.SOLVER.IMS_PER_BATCH / (epochs * step)
    row = {
        "step_s": round(step, 4),
        "measured_image_s": round(image, 4),
        "extra_percent": round(extra, 2),
        **{f"rank_correlation_{name}": value for name, value in ranks.items()},
    }
    print(tabulate([row.values()], row.keys(), tablefmt="github"))
    about = {"benchmark": "curriculum", "config": args.config, "weights": cfg.MODEL.WEIGHTS}
    about |= {"images": len(losses), "threads": args.threads, "epochs": epochs}
    print(json.dumps(about | row))


if __name__ == "__main__":
    main()
