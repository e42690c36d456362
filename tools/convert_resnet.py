#!/usr/bin/env python
"""Write ImageNet weights of torchvision's or timm's ResNets as a checkpoint for MODEL.WEIGHTS.

Nothing in the files is executed, so neither they nor the checkpoint need MODEL.TRUST_PICKLE.
"""

import argparse

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2
from slotseg.engine.cli import user_errors
from slotseg.engine.pretrained import convert_resnet


def main() -> None:
    """Parse, convert, say what was written."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="downloaded .pth or .safetensors, such as resnet50-*.pth")
    parser.add_argument("target", help=".pth to write")
    args = parser.parse_args()
    with user_errors():
        print(f"{args.target}: {convert_resnet(args.source, args.target)} tensors")


if __name__ == "__main__":
    main()
