#!/usr/bin/env python
"""Write the HTML report of a training run: scores, curves, pictures, how it was made."""

import argparse

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2
from slotseg.engine.cli import user_errors
from slotseg.engine.report import report_run


def main() -> None:
    """Parse, write, say where."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True, metavar="DIR", help="OUTPUT_DIR of the run")
    parser.add_argument("--output", metavar="FILE", help="report to write (DIR/report.html)")
    parser.add_argument(
        "--images", type=int, default=12, metavar="N", help="images to show (%(default)s)"
    )
    args = parser.parse_args()
    with user_errors():
        print(report_run(args.run, args.output, num_images=args.images))


if __name__ == "__main__":
    main()
