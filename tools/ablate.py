#!/usr/bin/env python
"""Train variants of a config with several seeds, and print what each of them changes in the score.

A YAML file names the config, a reference and the variants (docs/ablations.md). Every run has a
process of its own. Runs that are done are not repeated, and an interrupted one goes on where it
was: start the same command again. A run that fails is named in the table with the reason and does
not stop the others; the exit status is then 1.

KEY VALUE ... at the end are options of the config for all runs.

Writes ablation.md, .csv, .json and .png into the output folder, anew after every training.
"""

import argparse
import sys
from pathlib import Path

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2
from slotseg.ablation import (
    SLURM,
    TORCHRUN,
    ablate,
    launch_commands,
    make_study_plan,
    read_study,
    study_table,
)
from slotseg.engine.cli import split_overrides, user_errors
from slotseg.engine.clocks import PROCESSOR, WALL
from slotseg.engine.run_info import command_line

EXAMPLES = """examples:
  two thousand steps a run, three seeds, two runs at once:
    tools/ablate.py configs/ablations/semi_streets.yaml --steps 2000 --seeds 0 1 2 --jobs 2 \\
      --output output/semi
  twenty minutes of the processor each, of two variants and the reference:
    tools/ablate.py configs/ablations/semi_streets.yaml --train-minutes 20 --clock processor \\
      --only CutMix "Mean Teacher" --output output/look
  the same runs as jobs of a cluster; the command without --print-commands then reads their scores:
    tools/ablate.py study.yaml --steps 90000 --seeds 0 1 2 --output output/study \\
      --print-commands slurm --num-gpus 8 | sh
"""


def main() -> None:
    """Parse, run or print commands, print the table."""
    parser = argparse.ArgumentParser(
        usage="%(prog)s STUDY.yaml --output DIR [options] [KEY VALUE ...]",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", metavar="STUDY.yaml", help="config, reference and variants")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of all runs")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        "--train-minutes",
        type=float,
        metavar="M",
        help="train every variant for M minutes of training steps; the schedule is fitted to it",
    )
    budget.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="train every variant for N steps (default: as its config says)",
    )
    parser.add_argument(
        "--clock", choices=(WALL, PROCESSOR), default=WALL, help="of the minutes (default wall)"
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[0], metavar="N", help="one run each (default 0)"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="runs at once, which share out the processor's cores (default 1)",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="VARIANT",
        help="these variants and the reference, without the others",
    )
    parser.add_argument(
        "--evaluations",
        type=int,
        default=1,
        metavar="N",
        help="scores in training, the last at its end; their time is not counted (default 1)",
    )
    parser.add_argument(
        "--print-commands",
        choices=(TORCHRUN, SLURM),
        help="run nothing: print a command for every run that is not finished",
    )
    parser.add_argument(
        "--num-gpus",
        type=int,
        default=1,
        metavar="N",
        help="of each printed command, one process each; 0: the CPU (default 1)",
    )
    arguments, overrides = split_overrides(sys.argv[1:])
    args = parser.parse_args(arguments)
    if args.jobs < 1:
        parser.error(f"--jobs: must be at least 1, got {args.jobs}")
    with user_errors():
        study = read_study(args.study)
        plan = make_study_plan(
            study.only(args.only) if args.only else study,
            args.output,
            minutes=args.train_minutes,
            steps=args.steps,
            clock=args.clock,
            seeds=args.seeds,
            evaluations=args.evaluations,
            overrides=overrides,
            command=command_line(),
        )
        if args.print_commands:
            tool = str(Path(__file__).resolve().with_name("train_net.py"))
            for command in launch_commands(
                plan, args.print_commands, train_tool=tool, num_gpus=args.num_gpus
            ):
                print(command)
            return
        record = ablate(plan, processes=args.jobs)
        print(study_table(record))
    sys.exit(1 if record.failed else 0)


if __name__ == "__main__":
    main()
