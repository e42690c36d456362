#!/usr/bin/env python
"""Measure how many street scenes one core makes per second.

Prints a table, then the same figures as one line of JSON. Whole scenes are timed (layout, picture,
truth), by processor time, the same scenes at every size; then the encoding of one into each tree.
"""

import argparse
import json
import os
import platform
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2
from slotseg.data.synthetic.street_trees import TREES
from slotseg.data.synthetic.streets import render_street

SIZES = [(128, 256), (256, 512), (184, 620), (512, 1024), (1024, 2048)]


def main() -> None:
    """Time every size and every tree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=24, help="scenes per setting (default 24)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    render_street(args.seed, 0)  # first calls are slower
    results = []
    print(f"{'size':>10}{'images/s a core':>18}")
    for height, width in SIZES:
        # Large ones are slow and vary less.
        scenes = max(args.scenes * 256 * 512 // max(height * width, 256 * 512), 4)
        start = time.process_time()
        for index in range(scenes):
            render_street(args.seed, index, (height, width))
        rate = scenes / (time.process_time() - start)
        print(f"{f'{height}x{width}':>10}{rate:18.2f}")
        results.append({"size": [height, width], "images_per_core_second": round(rate, 2)})
    encoding = {}
    print(f"{'tree':>16}{'ms to encode':>14}")
    for name, tree in TREES.items():
        drawn = [render_street(args.seed, index, tree.size, tree.style) for index in range(6)]
        start = time.process_time()
        for index, scene in enumerate(drawn):
            tree.encode("train", index, scene)
        encoding[name] = round(1000 * (time.process_time() - start) / len(drawn), 1)
        print(f"{name:>16}{encoding[name]:14.1f}")
    print(
        json.dumps(
            {
                "benchmark": "render_streets",
                "scenes": args.scenes,
                "seed": args.seed,
                "machine": platform.machine(),
                "python": platform.python_version(),
                "numpy": np.__version__,
                "opencv": cv2.__version__,
                "results": results,
                "encode_ms": encoding,
            }
        )
    )


if __name__ == "__main__":
    main()
