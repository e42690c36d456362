#!/usr/bin/env python
"""Convert the bitmasks of BDD100K panoptic into the COCO panoptic form that SlotSeg reads.

    python datasets/prepare_bdd100k.py

writes $DETECTRON2_DATASETS/bdd100k/panoptic/{40,19}_{train,val}{/,.json}: with the 40 classes of
BDD100K, and with the 19 of Cityscapes. What is up to date is left alone. Interrupted, it goes on
when it is run again.
"""

from __future__ import annotations

import argparse
import os

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2
from slotseg.data.datasets.bdd100k import convert_bdd100k
from slotseg.data.datasets.root import datasets_root
from slotseg.engine.cli import user_errors


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root",
        default=os.path.join(datasets_root(), "bdd100k"),
        help="folder of images and labels (default: $DETECTRON2_DATASETS/bdd100k, here "
        "%(default)s)",
    )
    parser.add_argument(
        "--splits", nargs="+", default=["train", "val"], metavar="SPLIT", help="(train val)"
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        type=int,
        choices=[40, 19],
        default=[40, 19],
        help="own classes, those of Cityscapes, or both (40 19)",
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)"
    )
    args = parser.parse_args()
    with user_errors():
        for classes in args.classes:
            for split in args.splits:
                convert_bdd100k(args.root, split, classes, args.workers)
                print(f"{split}, {classes} classes: converted in {args.root}")


if __name__ == "__main__":
    main()
