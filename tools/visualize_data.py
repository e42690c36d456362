#!/usr/bin/env python
"""Draw what a training sees: augmented images, and beside each its segments with class names.

Things have outlines, void is black with grey stripes, crowds have white stripes. The pictures are
the samples of the training that the config describes, with the same augmentation; with MIXING.* on
they are mixed as far as that training does it at the iteration. With --unlabeled: what a teacher
sees of unlabelled images, with the student's window framed, the same carried onto the student's
view, and that view.
"""

import argparse

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2
from slotseg.config import get_cfg
from slotseg.engine.cli import user_errors
from slotseg.engine.visualize_data import visualize_data


def main() -> None:
    """Parse, draw, say where."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: tools/visualize_data.py --config-file configs/clevr/supervised_lean.yaml "
        "--num 8 --output drawn INPUT.RANDOM_FLIP horizontal",
    )
    parser.add_argument("--config-file", default="", metavar="FILE", help="path to a config file")
    parser.add_argument(
        "--dataset", metavar="NAME", help="registered data set (default: DATASETS.TRAIN)"
    )
    parser.add_argument(
        "--num", type=int, default=16, metavar="N", help="samples to draw (%(default)s)"
    )
    parser.add_argument("--seed", type=int, help="of order and augmentation (default: SEED)")
    parser.add_argument(
        "--iteration",
        type=int,
        default=0,
        metavar="I",
        help="begin with the batch of this iteration (%(default)s)",
    )
    parser.add_argument(
        "--unlabeled", action="store_true", help="draw the unlabelled images (SEMI.IMS_PER_BATCH)"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the pictures")
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, help="options of the config: KEY VALUE ..."
    )
    args = parser.parse_args()
    with user_errors():
        cfg = get_cfg(args.config_file, args.opts)
        files = visualize_data(
            cfg,
            args.output,
            dataset=args.dataset,
            num=args.num,
            seed=args.seed,
            iteration=args.iteration,
            unlabeled=args.unlabeled,
        )
        print(f"pictures in {args.output}: {len(files)}")


if __name__ == "__main__":
    main()
