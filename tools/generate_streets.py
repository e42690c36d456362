#!/usr/bin/env python
"""Make the generated street scenes, in the trees of Cityscapes, KITTI and BDD100K, ready to train.

Writes <output>/<set>/ as the real set is published, then converts it as datasets/prepare_*.py does.
Finished splits are skipped and unfinished ones completed, so it can be stopped and run again.
"""

import argparse
import os

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2
from slotseg.data.datasets.root import datasets_root
from slotseg.data.synthetic.street_trees import SPLITS, TREES
from slotseg.data.synthetic.street_trees.convert import convert_street_split
from slotseg.data.synthetic.street_trees.split import write_street_split
from slotseg.engine import user_errors

# Scenes per split.
DEFAULT_SCENES = {
    "cityscapes": {"train": 2000, "tune": 200, "val": 200},
    **{name: {"train": 200, "tune": 40, "val": 40} for name in TREES if name != "cityscapes"},
}


def main() -> None:
    """Generate and convert the splits asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sets", nargs="+", choices=TREES, default=list(TREES), metavar="SET",
        help=f"of {', '.join(TREES)} (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--splits", nargs="+", choices=SPLITS, default=list(SPLITS), metavar="SPLIT",
        help="of train, tune, val (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--num", type=int, nargs="+", metavar="N",
        help="scenes of each split, one number for all or one for each of --splits (default: "
        "cityscapes 2000 200 200, others 200 40 40)",
    )  # fmt: skip
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"),
                        help="of the pictures (default: 256 512; KITTI 184 620)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of all scenes (default 0)")
    parser.add_argument("--workers", type=int, help="processes (default: all processors)")
    parser.add_argument(
        "--output", help="folder of the sets (default: $DETECTRON2_DATASETS/streets_generated, or "
        "./datasets/streets_generated)",
    )  # fmt: skip
    args = parser.parse_args()
    if args.num and len(args.num) not in (1, len(args.splits)):
        parser.error(f"--num: {len(args.num)} numbers for {len(args.splits)} splits")
    output = args.output or os.path.join(datasets_root(), "streets_generated")
    with user_errors():
        for name in args.sets:
            for number, split in enumerate(args.splits):
                scenes = DEFAULT_SCENES[name][split]
                if args.num:
                    scenes = args.num[number % len(args.num)]
                root = os.path.join(output, name)
                size = tuple(args.size) if args.size else None
                made = write_street_split(
                    TREES[name], root, split, scenes, size, args.seed, args.workers
                )
                convert_street_split(name, root, split, args.workers or os.cpu_count() or 1)
                print(f"{root}: {split} {'done' if made else 'complete already'}")


if __name__ == "__main__":
    main()
