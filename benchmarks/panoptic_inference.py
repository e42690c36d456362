"""From slots to segments at full size: peak memory and time, against all masks at full size.

Random masks at a quarter of the size, every slot sure of some class, so that all of them compete.
Measured on one thread: how far the process grows beyond the masks it is given (Linux), and the
median processor time of some runs. The results of both sides have to be equal.

python benchmarks/panoptic_inference.py
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import statistics
import sys
import time
import unittest.mock
from collections.abc import Callable
from pathlib import Path

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2

import torch  # isort: skip
import torch.nn.functional as F
from tabulate import tabulate
from torch import Tensor

from slotseg.comparison.measure import peak_memory_mib
from slotseg.heads import PanopticHead, panoptic_inference
from slotseg.ops import competition

# Cityscapes: 11 classes of stuff and 8 of things.
IS_THING = (False,) * 11 + (True,) * 8
KINDS = ("softmax, classes", "sigmoid, classes", "softmax, no head")


def make_slots(num_slots: int, size: tuple[int, int], kind: str) -> tuple[Tensor, Tensor]:
    """Class logits ``[K, C + 1]`` and masks ``[K, H / 4, W / 4]`` with blobs in them."""
    torch.manual_seed(0)
    coarse = 4.0 * torch.randn(1, num_slots, size[0] // 64, size[1] // 64)
    logits = F.interpolate(coarse, (size[0] // 4, size[1] // 4), mode="bicubic")[0]
    masks = logits.sigmoid() if kind.startswith("sigmoid") else logits.softmax(dim=0)
    classes = torch.arange(num_slots) % len(IS_THING)
    return 8.0 * F.one_hot(classes, len(IS_THING) + 1).float(), masks


def segment(kind: str, class_logits: Tensor, masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Ids ``[H, W]``, as the model makes them."""
    if kind == "softmax, no head":
        return competition.compete(masks, size).winner
    head = PanopticHead(
        slot_dim=1,
        is_thing=IS_THING,
        object_threshold=0.5,
        min_area=1,
        independent=kind.startswith("sigmoid"),
    )
    return head.segment(class_logits, masks, size)[0]


def all_at_once(kind: str, class_logits: Tensor, masks: Tensor, size: tuple[int, int]) -> Tensor:
    """The same with every mask at full size, which is how it is usually written."""
    if kind == "softmax, no head":
        return F.interpolate(masks[None], size, mode="bilinear")[0].argmax(dim=0)
    probs = class_logits.softmax(dim=1)
    thresholds = {"object_threshold": 0.5}
    if kind.startswith("softmax"):
        thing = torch.tensor(IS_THING)
        stuff = torch.einsum("kc,khw->chw", probs[:, :-1][:, ~thing], masks)
        masks = torch.cat([stuff, masks])
        classes = (~thing).nonzero()[:, 0]
        probs = torch.cat([F.one_hot(classes, len(thing)).float(), probs[:, :-1] * thing])
        probs = F.pad(probs, (0, 1))
        thresholds |= {"overlap_threshold": 0.0, "mask_threshold": 0.0}
    full = F.interpolate(masks[None], size, mode="bilinear")[0]
    with unittest.mock.patch.object(competition, "_VALUES_AT_ONCE", 2**40):
        return panoptic_inference(probs, full, size, IS_THING, **thresholds)[0]


SIDES: dict[str, Callable[..., Tensor]] = {"ours": segment, "all masks": all_at_once}


def measure(
    side: str, kind: str, num_slots: int, size: tuple[int, int], runs: int
) -> tuple[float, float, Tensor]:
    """MiB by which the process grows, median processor seconds, and the ids ``[H, W]``."""
    class_logits, masks = make_slots(num_slots, size, kind)
    _forget_the_past()
    before = peak_memory_mib(torch.device("cpu"))
    seconds = []
    for _ in range(runs):
        began = time.process_time()
        ids = SIDES[side](kind, class_logits, masks, size)
        seconds.append(time.process_time() - began)
    grown = peak_memory_mib(torch.device("cpu")) - before
    return grown, statistics.median(seconds), ids


def _forget_the_past() -> None:
    """Linux: give freed memory back, and let the largest size of the process start anew."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slots", type=int, default=100, help="K (default %(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 2048), metavar=("H", "W"))
    parser.add_argument("--runs", type=int, default=3, help="timed (default %(default)s)")
    args = parser.parse_args()
    size = (args.size[0], args.size[1])
    torch.set_num_threads(1)
    rows = []
    for kind in KINDS:
        for side in SIDES:
            measure(side, kind, args.slots, (128, 256), 1)
        (memory, seconds, ids), (all_memory, all_seconds, all_ids) = (
            measure(side, kind, args.slots, size, args.runs) for side in SIDES
        )
        if not torch.equal(ids, all_ids):
            sys.exit(f"{kind}: the two sides give different segments")
        sizes = (f"{memory:.0f} MiB", f"{all_memory:.0f} MiB")
        rows.append((kind, *sizes, f"{seconds:.2f} s", f"{all_seconds:.2f} s"))
    headers = ("", "memory, ours", "all masks", "time, ours", "all masks")
    print(tabulate(rows, headers, tablefmt="github"))


if __name__ == "__main__":
    main()
