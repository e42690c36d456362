#!/usr/bin/env python
"""Panoptic quality of predictions in COCO panoptic format, from any model.

Each side is a JSON file and a folder of 8-bit RGB PNGs with id = R + 256 G + 65536 B. The classes
are the categories of the truth. Prints PQ, SQ and RQ in percent, TP, FP and FN, for every class,
for all, things and stuff.
"""

import argparse

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2
from slotseg.engine.cli import user_errors
from slotseg.evaluation.panoptic_files import evaluate_files


def main() -> None:
    """Parse, score, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gt-json", required=True, metavar="FILE", help="JSON of the truth")
    parser.add_argument("--gt-dir", required=True, metavar="DIR", help="PNGs of the truth")
    parser.add_argument("--pred-json", required=True, metavar="FILE", help="JSON of the prediction")
    parser.add_argument("--pred-dir", required=True, metavar="DIR", help="PNGs of the prediction")
    parser.add_argument(
        "--output", metavar="FILE", help="also write all scores and counts to this JSON file"
    )
    parser.add_argument(
        "--allow-subset",
        action="store_true",
        help="score the images that both sides have; without it they must have the same",
    )
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="threads (default 1); same result"
    )
    args = parser.parse_args()
    with user_errors():
        report = evaluate_files(
            args.gt_json,
            args.gt_dir,
            args.pred_json,
            args.pred_dir,
            allow_subset=args.allow_subset,
            workers=args.workers,
        )
        if args.output:
            report.write_json(args.output)
        print(f"Panoptic quality in percent, {report.setting()}")
        print(report.table())


if __name__ == "__main__":
    main()
