#!/usr/bin/env python
"""Draw the segments of image files, and if asked slots, hierarchies and reconstructions.

Writes <name>_segments.png, <name>_slots.png, <name>_hierarchy.png and <name>_reconstruction.png
into the output folder; inputs are not changed. Images that cannot be read are reported and skipped;
the exit status is then 1.
"""

import argparse
import sys

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2
from slotseg.config import get_cfg
from slotseg.engine.cli import user_errors
from slotseg.engine.demo import run_demo


def main() -> None:
    """Parse and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: tools/demo.py --config-file output/run/config.yaml --input images/ "
        "'more/*.jpg' --output drawn --slots MODEL.WEIGHTS output/run/model_best.pth",
    )
    parser.add_argument("--config-file", default="", metavar="FILE", help="path to a config file")
    parser.add_argument(
        "--input", nargs="+", required=True, metavar="IMG", help="files, folders or patterns"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the pictures")
    parser.add_argument("--slots", action="store_true", help="also draw every slot's mask")
    parser.add_argument(
        "--hierarchy", action="store_true", help="also draw both levels of a two-level grouping"
    )
    parser.add_argument(
        "--reconstruction",
        action="store_true",
        help="also show the image as the model draws it, beside the original (diffusion decoders "
        "take MODEL.DIFFUSION.SAMPLER_STEPS steps for it)",
    )
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        help="options of the config: KEY VALUE ...; MODEL.WEIGHTS is the checkpoint (default: the "
        "best one in OUTPUT_DIR)",
    )
    args = parser.parse_args()
    with user_errors():
        cfg = get_cfg(args.config_file, args.opts)
        failed = run_demo(
            cfg,
            args.input,
            args.output,
            slots=args.slots,
            hierarchy=args.hierarchy,
            reconstruction=args.reconstruction,
        )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
