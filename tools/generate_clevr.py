#!/usr/bin/env python
"""Make the generated CLEVR-like sets: images, masks and object attributes.

Finished splits are skipped and unfinished ones completed, so it can be stopped and run again.
"""

import argparse
import os

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2
from slotseg.data.datasets.clevr import datasets_root
from slotseg.data.synthetic.camera import WINDOWS
from slotseg.data.synthetic.clevr import generate_split
from slotseg.engine import user_errors

SEEDS = {"train": 0, "tune": 1, "val": 2}


def main() -> None:
    """Generate the splits asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--root", help="folder of all data sets (default: $DETECTRON2_DATASETS or ./datasets)"
    )
    parser.add_argument("--splits", nargs="+", choices=SEEDS, default=list(SEEDS), metavar="SPLIT")
    parser.add_argument(
        "--train", type=int, default=5000, metavar="N", help="scenes (default 5000)"
    )
    parser.add_argument("--tune", type=int, default=320, metavar="N", help="scenes (default 320)")
    parser.add_argument("--val", type=int, default=320, metavar="N", help="scenes (default 320)")
    parser.add_argument("--image-size", nargs=2, type=int, default=(128, 128), metavar=("H", "W"))
    parser.add_argument(
        "--window", choices=WINDOWS, default="clevr", help="the usual crop, or the whole 4:3 frame"
    )
    parser.add_argument("--workers", type=int, help="processes (default: all processors)")
    args = parser.parse_args()
    with user_errors():
        for split in args.splits:
            folder = os.path.join(args.root or datasets_root(), "clevr_generated", split)
            made = generate_split(
                folder,
                SEEDS[split],
                getattr(args, split),
                tuple(args.image_size),
                args.window,
                workers=args.workers,
            )
            print(f"{folder}: {'done' if made else 'complete already'}")


if __name__ == "__main__":
    main()
