#!/usr/bin/env python
"""Convert KITTI (2015 semantics, panoptic, STEP) into the COCO panoptic form that SlotSeg reads.

    python datasets/prepare_kitti.py

converts the releases that lie in $DETECTRON2_DATASETS/{kitti2015,kitti_panoptic,kitti_step}, each
to panoptic_{train,val}.json and panoptic_{train,val}/. What is up to date is left alone.
Interrupted, it goes on when it is run again.
"""

from __future__ import annotations

import argparse
import os

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2
from slotseg.data.datasets.kitti import (
    convert_kitti2015,
    convert_kitti_panoptic,
    convert_kitti_step,
)
from slotseg.data.datasets.root import datasets_root
from slotseg.engine.cli import user_errors
from slotseg.errors import DatasetError

RELEASES = {
    "kitti2015": convert_kitti2015,
    "kitti_panoptic": convert_kitti_panoptic,
    "kitti_step": convert_kitti_step,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--releases",
        nargs="+",
        choices=list(RELEASES),
        help="which ones (default: all that are there)",
    )
    parser.add_argument(
        "--root",
        default=datasets_root(),
        help="folder of the releases (default: $DETECTRON2_DATASETS, here %(default)s)",
    )
    parser.add_argument(
        "--splits", nargs="+", default=["train", "val"], metavar="SPLIT", help="(train val)"
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)"
    )
    args = parser.parse_args()
    with user_errors():
        releases = args.releases or [
            name for name in RELEASES if os.path.isdir(os.path.join(args.root, name))
        ]
        if not releases:
            raise DatasetError(
                f"{os.path.abspath(args.root)}: none of {', '.join(RELEASES)} lies here; "
                "datasets/README.md says where to get them"
            )
        for name in releases:
            for split in args.splits:
                RELEASES[name](os.path.join(args.root, name), split, num_workers=args.workers)
                print(f"{name} {split}: converted in {os.path.join(args.root, name)}")


if __name__ == "__main__":
    main()
