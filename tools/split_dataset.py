#!/usr/bin/env python
"""Choose the images of a training set whose labels are used, and write them into a list.

The list is for DATASETS.LABELED_LIST: it fixes a split for good and can be edited by hand. The
images are those that DATASETS.LABELED_FRACTION or LABELED_IMAGES with the same DATASETS.SPLIT_SEED
would take; of one seed, those of a smaller number are among those of a larger one. Prints how many
images of each class have labels, and warns of classes that have none.
"""

import argparse

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2
from slotseg.classes import class_set
from slotseg.config import get_cfg
from slotseg.data.image_lists import write_list
from slotseg.data.mappers import check_same_classes, dataset_kind
from slotseg.data.splits import format_split, split_training_images
from slotseg.engine.cli import user_errors
from slotseg.errors import ConfigError


def main() -> None:
    """Parse, split, write, print."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: tools/split_dataset.py cityscapes_panoptic_train --images 149 "
        "--output labeled_149.txt",
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="registered training sets")
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--fraction", type=float, metavar="F", help="share of the images, 0 to 1")
    size.add_argument("--images", type=int, metavar="N", help="number of images")
    parser.add_argument("--seed", type=int, default=0, help="of the choice (%(default)s)")
    parser.add_argument("--output", metavar="FILE", required=True, help="text file to write")
    args = parser.parse_args()
    with user_errors():
        if args.images is not None and args.images < 1:
            raise ConfigError(
                f"--images is {args.images}, so no image would have labels; give more"
            )
        chosen = (
            ["DATASETS.LABELED_FRACTION", args.fraction]
            if args.images is None
            else ["DATASETS.LABELED_IMAGES", args.images]
        )
        options = ["DATASETS.TRAIN", tuple(args.names), "DATASETS.SPLIT_SEED", args.seed, *chosen]
        split = split_training_images(get_cfg(None, options))
        check_same_classes(args.names)
        names = " ".join(args.names)
        write_list(
            args.output,
            split.labeled,
            split.rest,
            f"{len(split.labeled)} of {len(split.labeled) + len(split.rest)} images of {names}, "
            f"split seed {args.seed}",
        )
        if dataset_kind(args.names[0]) == "panoptic":
            print(format_split(split, class_set(args.names[0])))
        print(f"{args.output}: {len(split.labeled)} images")


if __name__ == "__main__":
    main()
