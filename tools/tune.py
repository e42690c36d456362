#!/usr/bin/env python
"""Choose options of several models by one rule: short trainings, scored on a tuning split.

Every model is trained with every value that is tried, each for the same time, and the best mean
over the seeds is chosen. x0.5 stands for half of what a model's own config says. Runs that are done
are not repeated, and an interrupted one goes on where it was: start the same command again.

Writes tuning.json and tuning.md into the output folder; tools/compare.py --tuned takes the former.
The split must not be one that the configs are trained or scored on.
"""

import argparse
import sys

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2
from slotseg.comparison import make_tuning_plan, tune
from slotseg.engine.cli import mark_overrides, user_errors
from slotseg.engine.clocks import PROCESSOR, WALL
from slotseg.engine.run_info import command_line

EXAMPLES = """examples:
  the learning rate of two models, six processor minutes a training, two at once:
    tools/tune.py --configs a.yaml b.yaml --try SOLVER.BASE_LR=x0.5,x1,x2 --train-minutes 6 \\
      --clock processor --jobs 2 --dataset cityscapes_generated_tune --output output/tuned
  a threshold of a trained model:
    tools/tune.py --configs a.yaml --weights a.pth --dataset cityscapes_generated_tune \\
      --try MODEL.HUGGINGFACE.OBJECT_THRESHOLD=0.3,0.5,0.8 --output output/threshold
"""


def main() -> None:
    """Parse, tune, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configs", nargs="+", required=True, metavar="FILE", help="one a model")
    parser.add_argument(
        "--names", nargs="+", default=[], metavar="NAME", help="one a config (default: its file's)"
    )
    parser.add_argument(
        "--try",
        dest="tried",
        nargs="+",
        required=True,
        metavar="KEY=V1,V2",
        help="values of an option; of several options every combination is tried",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--train-minutes", type=float, metavar="M", help="train every candidate for M minutes"
    )
    source.add_argument(
        "--weights", nargs="+", default=[], metavar="FILE", help="score these, one a config"
    )
    parser.add_argument(
        "--clock", choices=(WALL, PROCESSOR), default=WALL, help="of the minutes (default wall)"
    )
    parser.add_argument("--dataset", required=True, metavar="NAME", help="split to choose on")
    parser.add_argument(
        "--train-dataset",
        metavar="NAME",
        help="set to train on (default: the configs' DATASETS.TRAIN)",
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[0], metavar="N", help="one run each (default 0)"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="trainings at once (default 1)"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of all runs")
    parser.add_argument(
        "opts", nargs="*", help="options for all configs, at the end: KEY VALUE ..."
    )
    args = parser.parse_args(mark_overrides(sys.argv[1:]))
    if args.jobs < 1:
        parser.error(f"--jobs: must be at least 1, got {args.jobs}")
    with user_errors():
        tuning = make_tuning_plan(
            args.configs,
            args.output,
            args.tried,
            dataset=args.dataset,
            names=args.names,
            minutes=args.train_minutes,
            weights=args.weights,
            train_dataset=args.train_dataset,
            seeds=args.seeds,
            overrides=args.opts,
            clock=args.clock,
            command=command_line(),
        )
        choices, table = tune(tuning, processes=args.jobs)
        print(table)
    sys.exit(0 if all(choice.best for choice in choices) else 1)


if __name__ == "__main__":
    main()
