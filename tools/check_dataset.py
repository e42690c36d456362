#!/usr/bin/env python
"""Look at every file of registered data sets and say everything that is wrong with them.

Prints what each class has (images, segments, crowds, share of the pixels) and every fault with its
file. A fault either "breaks training" (training or evaluation stops on it) or is a "warning" (it
only makes labels or scores worse). The exit status is 1 if anything breaks training.
"""

import argparse
import json
import sys

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2
from slotseg.data.check import check_dataset, format_report
from slotseg.engine.cli import user_errors
from slotseg.files import write_atomically


def main() -> None:
    """Parse, check, print."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: tools/check_dataset.py cityscapes_panoptic_train cityscapes_panoptic_val "
        "--workers 4 --output faults.json",
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="registered data sets")
    parser.add_argument(
        "--workers",
        type=int,
        default=0,
        metavar="N",
        help="processes that open files (%(default)s: this one)",
    )
    parser.add_argument("--output", metavar="FILE", help="also write counts and faults as JSON")
    args = parser.parse_args()
    reports = []
    with user_errors():
        for name in args.names:
            reports.append(check_dataset(name, workers=args.workers))
            print(format_report(reports[-1]), flush=True)
        if args.output:
            content = json.dumps([report.as_dict() for report in reports], indent=1)
            write_atomically(args.output, content + "\n")
    sys.exit(1 if any(report.breaks_training for report in reports) else 0)


if __name__ == "__main__":
    main()
