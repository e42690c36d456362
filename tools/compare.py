#!/usr/bin/env python
"""Train or load several models, score them on one data set, and print one table.

Every model runs in processes of its own. Runs that are done are not repeated, and an interrupted
training goes on where it was: start the same command again. A model that fails is named in the
table with the reason and does not stop the others; the exit status is then 1.

Writes comparison.md, .csv, .png and .json into the output folder.
"""

import argparse
import sys

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2
from slotseg.comparison import (
    AS_BUILT,
    compare,
    load_published,
    make_plan,
    model_names,
    plan_table,
    published_names,
    read_added,
    read_chosen,
    require_other_split,
)
from slotseg.engine.cli import mark_overrides, user_errors
from slotseg.engine.clocks import PROCESSOR, WALL
from slotseg.engine.run_info import command_line

EXAMPLES = """examples:
  train each model for ten minutes, with three seeds:
    tools/compare.py --configs a.yaml b.yaml --train-minutes 10 --seeds 0 1 2 --output output/ten
  an hour of the processor each, two trainings at once, with what tools/tune.py has chosen:
    tools/compare.py --configs a.yaml b.yaml --train-minutes 60 --clock processor --jobs 2 \\
      --tuned output/tuned/tuning.json --evaluations 10 --seeds 0 1 2 --output output/hour
  score trained models, with published figures beside:
    tools/compare.py --configs a.yaml b.yaml --weights a.pth b.pth --output output/scored \\
      --published cityscapes
"""


def main() -> None:
    """Parse, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configs", nargs="+", required=True, metavar="FILE", help="one a model")
    parser.add_argument(
        "--names", nargs="+", default=[], metavar="NAME", help="one a config (default: its file's)"
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--train-minutes",
        type=float,
        metavar="M",
        help="train every model for M minutes of training steps; the schedule is fitted to it",
    )
    group.add_argument(
        "--weights",
        nargs="+",
        default=[],
        metavar="FILE",
        help=f"one a config; {AS_BUILT}: the config loads its own (default: MODEL.WEIGHTS, or the "
        "trained weights in the config's OUTPUT_DIR)",
    )
    parser.add_argument(
        "--clock",
        choices=(WALL, PROCESSOR),
        default=WALL,
        help="of these minutes: the wall's (default), or that of the processor, all threads and "
        "data workers of a training included, for a machine that other programs use as well",
    )
    parser.add_argument(
        "--tuned", metavar="JSON", help="take what tools/tune.py has chosen for each model, by name"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="trainings at once, which share out the processor's cores (default 1)",
    )
    parser.add_argument(
        "--dataset", metavar="NAME", help="set to score on (default: the configs' DATASETS.TEST)"
    )
    parser.add_argument(
        "--train-dataset",
        metavar="NAME",
        help="set to train on (default: the configs' DATASETS.TRAIN)",
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[0], metavar="N", help="one run each (default 0)"
    )
    parser.add_argument(
        "--evaluations",
        type=int,
        default=4,
        metavar="N",
        help="scores in training, the last at its end; their time is not counted (default 4)",
    )
    parser.add_argument(
        "--speed-images",
        type=int,
        default=20,
        metavar="N",
        help="images that inference is timed on, one at a time (default %(default)s)",
    )
    parser.add_argument(
        "--add", nargs="+", default=[], metavar="JSON", help="rows that other programs measured"
    )
    parser.add_argument(
        "--published",
        nargs="+",
        default=[],
        choices=published_names(),
        metavar="SET",
        help=f"published figures to show beside, of {', '.join(published_names())}",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the comparison")
    parser.add_argument(
        "opts", nargs="*", help="options for all configs, at the end: KEY VALUE ..."
    )
    args = parser.parse_args(mark_overrides(sys.argv[1:]))
    if args.jobs < 1:
        parser.error(f"--jobs: must be at least 1, got {args.jobs}")
    with user_errors():
        own, chosen, tuned_on = [], [], ""
        if args.tuned:
            own, chosen, tuned_on = read_chosen(args.tuned, model_names(args.configs, args.names))
        plan = make_plan(
            args.configs,
            args.output,
            names=args.names,
            minutes=args.train_minutes,
            weights=args.weights,
            dataset=args.dataset,
            train_dataset=args.train_dataset,
            seeds=args.seeds,
            evaluations=args.evaluations,
            speed_images=args.speed_images,
            overrides=args.opts,
            own_overrides=own,
            chosen=chosen,
            clock=args.clock,
            command=command_line(),
        )
        require_other_split(plan, tuned_on)
        added = [read_added(path) for path in args.add]
        published = [load_published(name) for name in args.published]
        rows = compare(plan, added=added, published=published, processes=args.jobs)
        print(plan_table(plan, rows, published))
    sys.exit(1 if any(row.errors for row in rows) else 0)


if __name__ == "__main__":
    main()
