#!/usr/bin/env python
"""Make panoptic sets (background, cube, sphere, cylinder) of CLEVR scenes with masks.

    python datasets/prepare_clevr_panoptic.py

reads the finished splits in $DETECTRON2_DATASETS/{clevr,clevr_generated} and writes
panoptic_<split>.json and panoptic_<split>/ beside them. What is up to date is left alone.
Interrupted, it goes on when it is run again.
"""

from __future__ import annotations

import argparse
import os

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2
from slotseg.data.datasets.clevr_panoptic import convert_clevr_panoptic
from slotseg.data.datasets.root import datasets_root
from slotseg.engine.cli import user_errors
from slotseg.errors import DatasetError

SPLITS = {"clevr": ["train", "val"], "clevr_generated": ["train", "tune", "val"]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sets",
        nargs="+",
        choices=list(SPLITS),
        default=list(SPLITS),
        help="of these (clevr clevr_generated)",
    )
    parser.add_argument(
        "--root",
        default=datasets_root(),
        help="folder of the sets (default: $DETECTRON2_DATASETS, here %(default)s)",
    )
    parser.add_argument(
        "--splits", nargs="+", metavar="SPLIT", help="these splits (default: all that are there)"
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)"
    )
    args = parser.parse_args()
    with user_errors():
        wanted = [(name, split) for name in args.sets for split in args.splits or SPLITS[name]]
        if not args.splits:
            wanted = [pair for pair in wanted if os.path.isdir(os.path.join(args.root, *pair))]
        if not wanted:
            raise DatasetError(
                f"{os.path.abspath(args.root)}: no finished split of {' or '.join(args.sets)} lies "
                "here; datasets/README.md says how to make them"
            )
        for name, split in wanted:
            convert_clevr_panoptic(os.path.join(args.root, name), split, args.workers)
            print(f"{name} {split}: converted in {os.path.join(args.root, name)}")


if __name__ == "__main__":
    main()
