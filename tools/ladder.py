#!/usr/bin/env python
"""Train the rungs of a ladder in order, each on the same budget, and print one table.

What the rungs start from is trained first, once. A rung whose slots have collapsed, or whose score
is under its gate, is not built upon unless --climb-anyway is given. Trainings that are done are not
repeated, and an interrupted one goes on where it was: start the same command again.

Writes ladder.md, .html, .png and .json into the output folder, anew after every training. The exit
status is 1 if the climb ended before the top or a training failed.
"""

import argparse
import re
import sys

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2
from slotseg.engine.cli import mark_overrides, user_errors
from slotseg.engine.run_info import command_line
from slotseg.ladder import climb, ladder_table, make_ladder_plan, read_ladder

EXAMPLES = """examples:
  ten minutes a rung, three seeds, two trainings at once:
    tools/ladder.py --ladder configs/clevr/ladder/ladder.yaml --output output/ladder \\
      --minutes 10 --seeds 0 1 2 --jobs 2
  two rungs for a look, without the memory of a step:
    tools/ladder.py --ladder configs/clevr/ladder/ladder.yaml --output output/look \\
      --steps 200 --only 0_baseline 1_dinov2 --memory-size none
"""


def image_size(text: str) -> tuple[int, int] | None:
    """``512x1024`` as height and width, ``none`` as None."""
    if text == "none":
        return None
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH or none, got {text!r}")
    return int(match[1]), int(match[2])


def main() -> None:
    """Parse, climb, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ladder", required=True, metavar="FILE", help="YAML that lists the rungs")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of all runs")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        "--minutes",
        type=float,
        metavar="M",
        help="train every rung for M minutes of training steps; the schedule is fitted to it",
    )
    budget.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="train every rung for N steps (default: as each config says)",
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[0], metavar="N", help="one run each (default 0)"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="trainings at once, which share the cores (default 1)",
    )
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="RUNG", help="climb these rungs, leave others out"
    )
    parser.add_argument(
        "--climb-anyway", action="store_true", help="build also on a rung that is not healthy"
    )
    parser.add_argument(
        "--evaluations",
        type=int,
        default=1,
        metavar="N",
        help="scores in training, the last at its end; their time is not counted (default 1)",
    )
    parser.add_argument(
        "--speed-images",
        type=int,
        default=10,
        metavar="N",
        help="images that inference is timed on, one at a time (default %(default)s)",
    )
    parser.add_argument(
        "--memory-size",
        type=image_size,
        default=(512, 1024),
        metavar="HxW",
        help="measure the memory of a training step on one image of this size; none: do not "
        "(default 512x1024)",
    )
    parser.add_argument("opts", nargs="*", help="options for all rungs, at the end: KEY VALUE ...")
    args = parser.parse_args(mark_overrides(sys.argv[1:]))
    if args.jobs < 1:
        parser.error(f"--jobs: must be at least 1, got {args.jobs}")
    with user_errors():
        ladder = read_ladder(args.ladder)
        plan = make_ladder_plan(
            ladder.only(args.only) if args.only else ladder,
            args.output,
            minutes=args.minutes,
            steps=args.steps,
            seeds=args.seeds,
            evaluations=args.evaluations,
            speed_images=args.speed_images,
            memory_size=args.memory_size,
            overrides=args.opts,
            command=command_line(),
        )
        for record in climb(plan, processes=args.jobs, climb_anyway=args.climb_anyway):
            last = record
        print(ladder_table(last))
    failed = any(rung.row.errors for rung in last.rungs)
    sys.exit(1 if last.stopped or failed else 0)


if __name__ == "__main__":
    main()
