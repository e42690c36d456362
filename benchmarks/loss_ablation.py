"""Short trainings with one further loss each: what it changes, and what a step of it costs.

Every training is the config's, at ``--size``, for ``--steps`` iterations, once for every seed, and
is scored on ``--dataset``. The spread over the seeds says which differences mean something.
``--wrong`` gives that share of the segments in training another class at random: what the
uncertainty-aware loss is made for.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable, Iterator
from typing import Any

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2

import numpy as np  # isort: skip
import torch
from detectron2.config import CfgNode
from tabulate import tabulate

from slotseg import get_cfg
from slotseg.classes import training_classes
from slotseg.engine import Trainer
from slotseg.engine.rng import seed_all

VARIANTS: dict[str, list[Any]] = {
    "none": [],
    "contrastive": ["LOSSES.CONTRASTIVE.WEIGHT", 0.1],
    "consistency": ["LOSSES.CONSISTENCY.WEIGHT", 0.5],
    "pixel classes": ["LOSSES.UNCERTAINTY.WEIGHT", 1.0, "LOSSES.UNCERTAINTY.THRESHOLD", 1.0],
    "sure pixels' classes": ["LOSSES.UNCERTAINTY.WEIGHT", 1.0, "LOSSES.UNCERTAINTY.WARM_UP", 100],
    "learnt weights": [
        "LOSSES.WEIGHTING.NAME", "uncertainty",
        "SOLVER.LR_FACTORS", ["weighting=10.0"],
    ],
}  # fmt: skip
SCORES = ("PQ", "PQ_things", "PQ_stuff")


class NoisyTrainer(Trainer):
    """Training with wrong classes: ``wrong`` of the segments have another one."""

    wrong = 0.0

    @classmethod
    def build_train_loader(
        cls, cfg: CfgNode, start_iter: int = 0
    ) -> Iterable[list[dict[str, Any]]]:
        """The usual batches, their classes changed."""
        generator = torch.Generator().manual_seed(cfg.SEED)
        number = len(training_classes(cfg).is_thing)
        for batch in super().build_train_loader(cfg, start_iter):
            yield [cls._spoil(sample, number, generator) for sample in batch]

    @classmethod
    def _spoil(
        cls, sample: dict[str, Any], number: int, generator: torch.Generator
    ) -> dict[str, Any]:
        classes = sample["segment_category"]
        wrong = torch.rand(classes.shape, generator=generator) < cls.wrong
        shift = torch.randint(1, number, classes.shape, generator=generator)
        changed = torch.where(wrong, (classes + shift) % number, classes)
        return {**sample, "segment_category": changed}


def config_of(args: argparse.Namespace, variant: str, seed: int, folder: str) -> CfgNode:
    """The config of one training."""
    cfg = get_cfg(
        args.config_file,
        [
            "INPUT.IMAGE_SIZE", tuple(args.size),
            "DATASETS.TEST", (args.dataset,),
            "SOLVER.MAX_ITER", args.steps,
            "SOLVER.WARMUP_ITERS", args.steps // 10,
            "TEST.EVAL_PERIOD", args.steps,
            "SOLVER.CHECKPOINT_PERIOD", args.steps,
            "SLOT_MONITOR.PERIOD", args.steps,
            "PICTURES.IMAGES", 0,
            "DATALOADER.NUM_WORKERS", 0,
            "SEED", seed,
            "OUTPUT_DIR", folder,
            *VARIANTS[variant],
            *args.opts,
        ],
    )  # fmt: skip
    cfg.freeze()
    return cfg


def train(args: argparse.Namespace, variant: str, seed: int) -> dict[str, float]:
    """Scores, seconds of a processor a step, and of the last steps what was logged."""
    with tempfile.TemporaryDirectory() as folder:
        cfg = config_of(args, variant, seed, folder)
        seed_all(seed)
        trainer = NoisyTrainer(cfg)
        began = time.process_time()
        results = trainer.train()
        spent = time.process_time() - began
    scores = next(iter(results.values()))["panoptic"]
    row = {name: scores[name] for name in SCORES} | {"seconds": spent}
    history = trainer.storage.histories()
    if "uncertainty/kept" in history:
        row["kept"] = history["uncertainty/kept"].median(20)
    return row


def show(variant: str, rows: list[dict[str, float]]) -> Iterator[str]:
    """One line of the table: means, and in brackets the lowest and highest of the seeds."""
    yield variant
    for name in (*SCORES, "seconds"):
        values = [row[name] for row in rows]
        yield f"{np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"
    kept = [row["kept"] for row in rows if "kept" in row]
    yield f"{100 * np.mean(kept):.0f} %" if kept else ""


def main() -> None:
    """Train, score, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", default="configs/clevr/slot_lean_generated_panoptic.yaml")
    parser.add_argument("--dataset", default="clevr_generated_panoptic_tune", help="(%(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=(64, 64), help="(%(default)s)")
    parser.add_argument("--steps", type=int, default=300, help="(%(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="(%(default)s)")
    parser.add_argument("--wrong", type=float, default=0.0, help="share of wrong classes (0)")
    parser.add_argument("--variants", nargs="+", choices=[*VARIANTS], default=[*VARIANTS])
    parser.add_argument("opts", nargs="*", help="options of the config: KEY VALUE ...")
    args = parser.parse_args()
    torch.set_num_threads(1)
    NoisyTrainer.wrong = args.wrong
    table = []
    for variant in args.variants:
        rows = [train(args, variant, seed) for seed in args.seeds]
        table.append([*show(variant, rows)])
        print(" | ".join(table[-1]), flush=True)
    headers = ["further loss", *SCORES, "processor seconds", "pixels kept"]
    print(tabulate(table, headers, tablefmt="github"))


if __name__ == "__main__":
    main()
