#!/usr/bin/env python
"""What CutMix and mosaic cost, and what they make of a data set's segments.

time:     processor time of a mixed image, beside the usual way: a mask of its own for every segment
          that is cut, pasted and counted by itself. Both make the same segments.
segments: of the training images as they come and mixed: things, stuff and void an image, the area
          of things, and how many segments were cut to remains that became void.

Prints two tables, then the same figures as one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2

import numpy as np  # isort: skip
import torch
import torch.nn.functional as F
from tabulate import tabulate
from tqdm import tqdm

from slotseg import get_cfg
from slotseg.data import TrainingBatch, build_train_loader
from slotseg.data.mixing import CutMix, Mix, Mosaic, Patch, Remains, Source, build_mixing, compose
from slotseg.engine.cli import mark_overrides, user_errors

Dicts = list[dict[str, Any]]


def by_masks(dicts: Dicts, patches: list[Patch], remains: Remains) -> dict[str, Any]:
    """The segments of :func:`slotseg.data.mixing.compose`, one mask after the other."""
    size = tuple(dicts[0]["segment_map"].shape)
    image = torch.empty_like(dicts[0]["image"])
    segments: list[dict[str, Any]] = []
    for patch in patches:
        sample = dicts[patch.source]
        top, left, height, width = patch.box
        box = (slice(top, top + height), slice(left, left + width))
        for segment in segments:
            segment["mask"][box] = False
        top, left, height, width = patch.window
        window = (slice(top, top + height), slice(left, left + width))
        pixels = sample["image"][:, window[0], window[1]]
        shrunk = patch.window[2:] != patch.box[2:]
        if shrunk:
            pixels = F.interpolate(
                pixels[None].float(), patch.box[2:], mode="bilinear", antialias=True
            )[0]
        image[:, box[0], box[1]] = pixels.to(image.dtype)
        for number, category in enumerate(sample["segment_category"].tolist()):
            mask = sample["segment_map"] == number
            area = int(mask.sum()) * patch.enlargement
            mask = mask[window]
            if shrunk:
                mask = F.interpolate(mask[None, None].float(), patch.box[2:], mode="nearest-exact")[
                    0, 0
                ].bool()
            placed = torch.zeros(size, dtype=torch.bool)
            placed[box] = mask
            is_object = bool(sample["segment_is_object"][number])
            is_crowd = bool(sample["segment_is_crowd"][number])
            same = next(
                (
                    s
                    for s in segments
                    if not is_object and s["kind"] == (category, is_object, is_crowd)
                ),
                None,
            )
            if same is None:
                segments.append(
                    {"mask": placed, "area": 0, "kind": (category, is_object, is_crowd)}
                )
                same = segments[-1]
            else:
                same["mask"] |= placed
            same["area"] += area
    segment_map = torch.full(size, -1)
    kept = []
    for segment in segments:
        visible = int(segment["mask"].sum())
        enough = visible >= min(remains.min_area, remains.min_share * segment["area"])
        if visible and (enough or segment["kind"][2]):
            segment_map[segment["mask"]] = len(kept)
            kept.append(segment["kind"])
    return {"image": image, "segment_map": segment_map, "kinds": kept}


def milliseconds(function: Callable[[], Any]) -> float:
    """Of the processor."""
    began = time.process_time()
    function()
    return 1000 * (time.process_time() - began)


def measure_time(mix: Mix, batches: list[Dicts]) -> dict[str, float]:
    """Medians over batches, milliseconds an image, and how often both ways agree."""
    rng = np.random.default_rng(0)
    times: dict[str, list[float]] = {"slotseg": [], "masks": []}
    agree = []
    for dicts in tqdm(batches, desc=type(mix).__name__, unit=" batches", disable=None):
        size = tuple(dicts[0]["segment_map"].shape)
        plans = [mix.plan(number, len(dicts), size, rng) for number in range(len(dicts))]
        plans = [plan for plan in plans if plan]
        sources = [Source(sample) for sample in dicts]
        ours: Dicts = []
        theirs: Dicts = []
        times["slotseg"].append(
            milliseconds(lambda s=sources, p=plans, o=ours: o.extend(_ours(s, p, mix))) / len(plans)
        )
        times["masks"].append(
            milliseconds(
                lambda d=dicts, p=plans, t=theirs: t.extend(
                    by_masks(d, plan, mix.remains) for plan in p
                )
            )
            / len(plans)
        )
        agree += [
            len(a["segment_category"]) == len(b["kinds"])
            and torch.equal(a["segment_map"], b["segment_map"])
            for a, b in zip(ours, theirs, strict=True)
        ]
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "slotseg_ms": round(medians["slotseg"], 3),
        "fastest_ms": round(min(times["slotseg"]), 3),
        "masks_ms": round(medians["masks"], 3),
        "ratio": round(medians["masks"] / medians["slotseg"], 1),
        "same_segments_percent": round(100.0 * statistics.mean(agree), 1),
    }


def _ours(sources: list[Source], plans: list[list[Patch]], mix: Mix) -> Dicts:
    return [compose(sources, plan, mix.remains) for plan in plans]


def count_segments(dicts: Dicts) -> dict[str, float]:
    """Means an image; areas in pixels."""
    things, stuff, void, areas = [], [], [], []
    for sample in dicts:
        count = len(sample["segment_category"])
        pixels = torch.bincount((sample["segment_map"] + 1).flatten(), minlength=count + 1)
        seen = pixels[1:] > 0
        is_object, is_crowd = sample["segment_is_object"], sample["segment_is_crowd"]
        things.append(int((seen & is_object).sum()))
        stuff.append(int((seen & ~is_object & ~is_crowd).sum()))
        void.append(int(pixels[0]) / sample["segment_map"].numel())
        areas += pixels[1:][seen & is_object].tolist()
    return {
        "things": round(statistics.mean(things), 2),
        "stuff": round(statistics.mean(stuff), 2),
        "median_thing_area": statistics.median(areas) if areas else 0,
        "void_percent": round(100 * statistics.mean(void), 2),
    }


def main() -> None:
    """Load, mix, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help="of a panoptic set")
    parser.add_argument("--batches", type=int, default=20, metavar="N", help="default 20")
    parser.add_argument("opts", nargs="*", help="options at the end: KEY VALUE")
    args = parser.parse_args(mark_overrides(sys.argv[1:]))
    if args.batches < 1:
        parser.error("--batches: at least 1")
    torch.set_num_threads(1)
    with user_errors():
        cfg = get_cfg(args.config_file, args.opts)
        cfg.DATALOADER.NUM_WORKERS = 0
        cfg.MIXING.CUTMIX.PROBABILITY = cfg.MIXING.MOSAIC.PROBABILITY = 1.0
        mosaic, cutmix = (one.mix for one in build_mixing(cfg).mixes)
        loaded = islice(build_train_loader(cfg), args.batches)
        batches = [
            TrainingBatch.of(drawn).labeled
            for drawn in tqdm(loaded, total=args.batches, desc="loading", disable=None)
        ]
    mixes: dict[str, Mix] = {"CutMix": cutmix, "mosaic": mosaic}
    times = {name: measure_time(mix, batches) for name, mix in mixes.items()}
    whole = [sample for dicts in batches for sample in dicts]
    segments = {"as they come": count_segments(whole)}
    for name, mix in mixes.items():
        for label, remains in ((name, mix.remains), (f"{name}, all remains", Remains(0, 0.0))):
            again = _with(mix, remains)
            rng = np.random.default_rng(0)
            mixed = [sample for dicts in batches for sample in again(dicts, rng)]
            segments[label] = count_segments(mixed)
    for title, rows in (("time", times), ("segments", segments)):
        columns = [title, *next(iter(rows.values()))]
        print(tabulate([[n, *r.values()] for n, r in rows.items()], columns, tablefmt="github"))
        print()
    size = list(batches[0][0]["segment_map"].shape)
    about = {"benchmark": "mixing", "images": len(whole), "batch": len(batches[0]), "size": size}
    print(json.dumps(about | {"time": times, "segments": segments}))


def _with(mix: Mix, remains: Remains) -> Mix:
    """The same mix with another idea of what is too little."""
    if isinstance(mix, CutMix):
        return CutMix(mix.alpha, remains)
    assert isinstance(mix, Mosaic)
    return Mosaic(mix.center, mix.scale, remains)


if __name__ == "__main__":
    main()
