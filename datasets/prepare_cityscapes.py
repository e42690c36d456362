#!/usr/bin/env python
"""Make the panoptic files of Cityscapes with its official scripts, from leftImg8bit and gtFine.

    python datasets/prepare_cityscapes.py

writes $DETECTRON2_DATASETS/cityscapes/gtFine/cityscapes_panoptic_{train,val}{/,.json}. What is up
to date is left alone. Interrupted, it goes on when it is run again.
"""

from __future__ import annotations

import argparse
import os

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2
from slotseg.data.datasets.cityscapes import convert_cityscapes
from slotseg.data.datasets.root import datasets_root
from slotseg.engine.cli import user_errors


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root",
        default=os.path.join(datasets_root(), "cityscapes"),
        help="folder of leftImg8bit and gtFine (default: $DETECTRON2_DATASETS/cityscapes, here "
        "%(default)s)",
    )
    parser.add_argument(
        "--splits", nargs="+", default=["train", "val"], metavar="SPLIT", help="(train val)"
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)"
    )
    args = parser.parse_args()
    with user_errors():
        for split in args.splits:
            convert_cityscapes(args.root, split, args.workers)
            print(f"{split}: converted in {args.root}")


if __name__ == "__main__":
    main()
