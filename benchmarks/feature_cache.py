"""Training steps a second with the maps of a frozen ViT from disk, and with the ViT running.

The same config, batches and weights on both sides, in turns. Data loading is part of a step; the
optimiser's update is not, so that both sides see the same model in every step. The losses of both
sides are compared in every turn, and the benchmark stops where they differ by more than half
precision explains. Needs the data of the config; the cache is made in a temporary folder from
``--dataset``, a small set being enough, and its making is timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2

import torch  # isort: skip
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from slotseg import get_cfg
from slotseg.data import build_train_loader
from slotseg.engine.feature_cache import FeatureCacheWriter
from slotseg.engine.precision import build_autocast
from slotseg.engine.rng import seed_all

# Largest relative difference of a loss: half precision has 11 bits, bfloat16 autocast 8.
TOLERANCE = 0.05


class Side:
    """A model in training and its batches."""

    def __init__(self, cfg: CfgNode) -> None:
        seed_all(0)
        self.model: nn.Module = build_model(cfg).train()
        self.batches: Iterator[list] = iter(build_train_loader(cfg))
        self.autocast = build_autocast(cfg, torch.device(cfg.MODEL.DEVICE))

    def steps(self, count: int) -> tuple[float, list[float]]:
        """Seconds a step, and the losses."""
        losses = []
        began = time.perf_counter()
        for _ in range(count):
            with self.autocast():
                total = sum(self.model(next(self.batches)).values())
            self.model.zero_grad(set_to_none=True)
            total.backward()
            losses.append(total.item())
        return (time.perf_counter() - began) / count, losses


def compare(ours: list[float], theirs: list[float]) -> float:
    """Largest relative difference; stops the benchmark if it is too large."""
    worst = max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))
    if worst > TOLERANCE:
        raise SystemExit(f"the losses differ by {worst:.1%}: the cache is not of this model")
    return worst


def main() -> None:
    """Cache, measure in turns, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", default="configs/clevr/ladder/1_dinov2.yaml")
    parser.add_argument("--dataset", default="clevr_generated_tune", help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns (%(default)s)")
    parser.add_argument("--steps", type=int, default=6, help="per turn (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (%(default)s)")
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, help="options of the config: KEY VALUE ..."
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        options = ["INPUT.RANDOM_FLIP", "none", "DATASETS.TRAIN", (args.dataset,)]
        options += ["DATASETS.TEST", (), "DATALOADER.NUM_WORKERS", 0, *args.opts]
        cfg = get_cfg(args.config_file, options)
        cache = f"{folder}/features"
        began = time.perf_counter()
        writer = FeatureCacheWriter(cfg, cache)
        writer.write()
        caching = time.perf_counter() - began
        cached = cfg.clone()
        cached.MODEL.VIT.CACHE = cache
        sides = {"cached": Side(cached), "ViT running": Side(cfg)}
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        worst = 0.0
        for turn in range(args.rounds + 1):
            losses = []
            for name, side in sides.items():
                # The same draws of initial slots on both sides.
                torch.manual_seed(turn)
                took, values = side.steps(args.steps)
                losses.append(values)
                if turn:  # the first turn is for warming up
                    seconds[name].append(took)
            worst = max(worst, compare(*losses))
    ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
    print(f"\n{writer.plan}; made in {caching:.1f} s")
    print(f"\n{'steps a second':16}{'median':>10}   all turns")
    for name, values in seconds.items():
        turns = " ".join(f"{1 / value:.2f}" for value in values)
        print(f"{name:16}{1 / statistics.median(values):10.2f}   {turns}")
    print(f"{'ratio':16}{statistics.median(ratios):10.2f}")
    print(f"losses differ by at most {worst:.2%}")
    print(json.dumps({"seconds": seconds, "ratio": statistics.median(ratios), "caching": caching}))


if __name__ == "__main__":
    main()
