#!/usr/bin/env python
"""Seconds of inference on one image, several models side by side in one process.

Every model takes the same scenes in turn, so that what else the machine does meets all of them
alike. From the mapped image to segments at its full size; making the image is not part of it. The
scenes are rendered at the wanted size and nothing is read from disk. How many segments a model
finds changes its time: give trained weights where there are any, and look at the last column.

Prints a table, then the same figures as one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import time
from typing import Any

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2

import torch  # isort: skip
from detectron2.modeling import build_model
from tabulate import tabulate
from torch import nn
from tqdm import tqdm

from slotseg import get_cfg
from slotseg.data.synthetic.streets import render_street
from slotseg.engine import load_weights
from slotseg.engine.cli import mark_overrides, user_errors
from slotseg.engine.rng import seed_all
from slotseg.errors import ConfigError

CONFIGS = (
    "configs/cityscapes/slot_lean_generated.yaml",
    "configs/cityscapes/panoptic_fpn_r50_generated.yaml",
)
_WARM_UP = 1
_UNTRAINED = "none"


def image_size(text: str) -> tuple[int, int]:
    """``512x1024`` as height and width."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH, got {text!r}")
    return int(match[1]), int(match[2])


def scenes(count: int, size: tuple[int, int], seed: int) -> list[dict[str, Any]]:
    """Rendered street scenes as a model takes them, in RGB and without truth."""
    height, width = size
    drawn = (render_street(seed, index, size).image for index in range(count))
    return [
        {
            "image": torch.from_numpy(image.transpose(2, 0, 1).copy()),
            "height": height,
            "width": width,
        }
        for image in drawn
    ]


def build(config: str, weights: str, size: tuple[int, int], overrides: list[str]) -> nn.Module:
    """The model of a config on the CPU, ready for images of a size."""
    cfg = get_cfg(config, overrides)
    cfg.MODEL.DEVICE = "cpu"
    cfg.INPUT.IMAGE_SIZE = size
    # A new image comes without its features.
    cfg.MODEL.VIT.CACHE = ""
    if cfg.INPUT.FORMAT != "RGB":
        raise ConfigError(f"INPUT.FORMAT: {config}: the scenes are RGB, got {cfg.INPUT.FORMAT}")
    seed_all(0)
    model = build_model(cfg)
    if weights != _UNTRAINED:
        load_weights(model, weights)
    return model.eval()


def main() -> None:
    """Build the models, take turns, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--configs",
        nargs="+",
        default=CONFIGS,
        metavar="FILE",
        help="the last one is what the others are compared with (default: %(default)s)",
    )
    parser.add_argument(
        "--weights",
        nargs="+",
        default=[],
        metavar="FILE",
        help=f"one a config; {_UNTRAINED}: random ones (default)",
    )
    parser.add_argument("--names", nargs="+", default=[], help="one a config (default: its file's)")
    parser.add_argument(
        "--size", type=image_size, default=(512, 1024), metavar="HxW", help="default 512x1024"
    )
    parser.add_argument("--images", type=int, default=8, metavar="N", help="turns (default 8)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default 1")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes")
    parser.add_argument("opts", nargs="*", help="options for all configs, at the end: KEY VALUE")
    args = parser.parse_args(mark_overrides(sys.argv[1:]))
    names = args.names or [re.sub(r".*/|\.yaml$", "", config) for config in args.configs]
    weights = args.weights or [_UNTRAINED] * len(args.configs)
    if not len(args.configs) == len(names) == len(weights):
        parser.error("--weights and --names: one a config")
    if args.images < 1:
        parser.error("--images: at least 1")
    torch.set_num_threads(args.threads)
    with user_errors():
        models = [
            build(config, path, args.size, args.opts)
            for config, path in zip(args.configs, weights, strict=True)
        ]
        found = take_turns(models, scenes(args.images, args.size, args.seed))
    report(names, weights, found, args)


def take_turns(
    models: list[nn.Module], items: list[dict[str, Any]]
) -> list[list[tuple[float, float, int]]]:
    """Of every model and image: seconds of the wall, of the processor, and segments found."""
    found: list[list[tuple[float, float, int]]] = [[] for _ in models]
    with torch.inference_mode(), tqdm(total=len(items), desc="images", disable=None) as bar:
        for model in models:
            for item in items[:_WARM_UP]:
                model([item])
        for item in items:
            for model, rows in zip(models, found, strict=True):
                wall, processor = time.perf_counter(), time.process_time()
                (output,) = model([item])
                spent = time.perf_counter() - wall, time.process_time() - processor
                rows.append((*spent, len(output["panoptic_seg"][1])))
            bar.update()
    return found


def report(
    names: list[str],
    weights: list[str],
    found: list[list[tuple[float, float, int]]],
    args: argparse.Namespace,
) -> None:
    """Print the table and the line of JSON."""
    medians = [
        tuple(statistics.median(column) for column in zip(*rows, strict=True)) for rows in found
    ]
    results = []
    for name, path, (wall, processor, segments) in zip(names, weights, medians, strict=True):
        results.append(
            {
                "model": name,
                "trained": path != _UNTRAINED,
                "seconds": round(wall, 4),
                "processor_seconds": round(processor, 4),
                "times_faster": round(medians[-1][1] / processor, 2),
                "segments": segments,
            }
        )
    height, width = args.size
    print(f"{height}x{width}, {args.threads} thread(s), median of {args.images} images in turn")
    print(tabulate([row.values() for row in results], results[0].keys(), tablefmt="github"))
    print(f"times_faster: than {names[-1]}, in processor seconds")
    about = {"benchmark": "inference_speed", "size": args.size, "threads": args.threads}
    print(json.dumps(about | {"images": args.images, "results": results}))


if __name__ == "__main__":
    main()
