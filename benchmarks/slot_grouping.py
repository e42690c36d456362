"""Milliseconds of a slot grouping, forward and backward, with each of its updates and token mixers.

The grouping of ``--config-file`` alone, on random tokens; one thread, processor time, the median of
``--rounds`` after a warm-up, the variants in turns.

python benchmarks/slot_grouping.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2

import torch  # isort: skip
from detectron2.config import CfgNode
from tabulate import tabulate
from torch import Tensor, nn
from tqdm import tqdm

from slotseg import get_cfg
from slotseg.engine.cli import user_errors
from slotseg.engine.precision import build_autocast
from slotseg.engine.rng import seed_all
from slotseg.slots import Tokens, build_slot_grouping

# TOKEN_MIXER, UPDATE, STATE_DIM; the published grouping first.
VARIANTS = (
    ("none", "gru", 8),
    ("none", "mamba", 8),
    ("mamba", "gru", 4),
    ("mamba", "gru", 8),
    ("mamba", "gru", 16),
)


class Side:
    """A grouping, and the tokens that its slots compete for."""

    def __init__(
        self, cfg: CfgNode, variant: tuple[str, str, int], images: int, grid: tuple[int, int]
    ) -> None:
        seed_all(0)
        slots = cfg.MODEL.SLOTS
        slots.GROUPING.TOKEN_MIXER, slots.GROUPING.UPDATE, slots.MAMBA.STATE_DIM = variant
        self.grouping: nn.Module = build_slot_grouping(cfg)
        self.autocast = build_autocast(cfg, torch.device("cpu"))
        values = torch.randn(images, grid[0] * grid[1], slots.DIM, requires_grad=True)
        self.tokens = Tokens(values, grid)
        self.initial: Tensor = torch.randn(images, slots.NUM_SLOTS, slots.DIM, requires_grad=True)

    def seconds(self) -> float:
        """Of one forward and backward pass, with gradients of weights, tokens and first slots."""
        began = time.process_time()
        with self.autocast():
            state = self.grouping(self.tokens, self.initial)
        (state.slots.float().square().mean() + state.attention.square().mean()).backward()
        return time.process_time() - began


def main() -> None:
    """Print one row a variant, and the same figures as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", default="configs/clevr/supervised_lean.yaml")
    parser.add_argument("--images", type=int, default=8, help="at once (default 8)")
    parser.add_argument("--grid", type=int, nargs=2, default=(32, 32), help="of tokens (32 32)")
    parser.add_argument("--rounds", type=int, default=7, help="that are timed (default 7)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with user_errors():
        sides = {
            variant: Side(get_cfg(args.config_file), variant, args.images, tuple(args.grid))
            for variant in VARIANTS
        }
    seconds: dict[tuple, list[float]] = {variant: [] for variant in VARIANTS}
    for number in tqdm(range(args.rounds + 1), desc="rounds", disable=None):
        for variant, side in sides.items():
            taken = side.seconds()
            if number > 0:  # the first round warms up
                seconds[variant].append(taken)
    rows = [(*variant, 1000 * statistics.median(taken)) for variant, taken in seconds.items()]
    headers = ("TOKEN_MIXER", "UPDATE", "states", "ms")
    print(tabulate(rows, headers, tablefmt="github", floatfmt=".0f"))
    print(json.dumps([dict(zip(headers, row, strict=True)) for row in rows]))


if __name__ == "__main__":
    main()
