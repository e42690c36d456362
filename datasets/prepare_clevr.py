#!/usr/bin/env python
"""Convert CLEVR with masks (TFRecords) into the folders that SlotSeg reads; no TensorFlow.

    python datasets/prepare_clevr.py --tfrecords clevr_with_masks_train.tfrecords

writes $DETECTRON2_DATASETS/clevr/{train,val}. Interrupted, it goes on when it is run again.
"""

from __future__ import annotations

import argparse
import os

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2
from slotseg.data.datasets.clevr_tfrecords import convert_clevr_with_masks
from slotseg.data.datasets.root import datasets_root
from slotseg.engine.cli import user_errors


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--tfrecords", required=True, metavar="FILE", help="clevr_with_masks_train.tfrecords"
    )
    parser.add_argument(
        "--root",
        default=os.path.join(datasets_root(), "clevr"),
        help="folder of the splits (default: $DETECTRON2_DATASETS/clevr, here %(default)s)",
    )
    parser.add_argument("--train", type=int, default=70_000, help="first records (%(default)s)")
    parser.add_argument("--val", type=int, default=15_000, help="records after them (%(default)s)")
    parser.add_argument("--limit", type=int, help="only the first LIMIT scenes of each split")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)"
    )
    args = parser.parse_args()
    with user_errors():
        folders = convert_clevr_with_masks(
            args.tfrecords, args.root, args.train, args.val, args.limit, args.workers
        )
        for name, folder in folders.items():
            print(f"{name}: {folder}")


if __name__ == "__main__":
    main()
