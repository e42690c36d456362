#!/usr/bin/env python
"""Measure how many CLEVR-like scenes one core renders per second.

Prints a table, then the same figures as one line of JSON. Whole scenes are timed (sampling,
visibility test, rendering), by processor time, on the same scenes for every setting.
"""

import argparse
import json
import os
import platform
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2
from slotseg.data.synthetic.clevr import generate_scene

SETTINGS = [
    ("clevr", (128, 128), 1),
    ("clevr", (128, 128), 2),
    ("full", (240, 320), 1),
    ("full", (240, 320), 2),
]


def main() -> None:
    """Time every setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=20, help="scenes per setting (default 20)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    generate_scene(args.seed, 0)  # first calls are slower
    results = []
    print(f"{'window':8}{'size':>10}{'rays':>6}{'images/s':>10}")
    for window, image_size, supersampling in SETTINGS:
        start = time.process_time()
        for index in range(args.scenes):
            generate_scene(args.seed, index, image_size, window, supersampling)
        rate = args.scenes / (time.process_time() - start)
        size = f"{image_size[0]}x{image_size[1]}"
        print(f"{window:8}{size:>10}{f'{supersampling}x{supersampling}':>6}{rate:10.2f}")
        results.append(
            {
                "window": window,
                "image_size": image_size,
                "supersampling": supersampling,
                "images_per_core_second": round(rate, 2),
            }
        )
    print(
        json.dumps(
            {
                "benchmark": "render_clevr",
                "scenes": args.scenes,
                "seed": args.seed,
                "machine": platform.machine(),
                "python": platform.python_version(),
                "numpy": np.__version__,
                "results": results,
            }
        )
    )


if __name__ == "__main__":
    main()
