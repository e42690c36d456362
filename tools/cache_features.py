#!/usr/bin/env python
"""Run a frozen vision transformer once over the data sets of a config, and keep what it gives.

Trainings with MODEL.VIT.CACHE set to the folder read its maps and do not run the ViT: they are as
fast as the slots. For configs without random augmentation, over DATASETS.TRAIN and DATASETS.TEST.
The size on disk is printed before anything is written. Run again after a stop, it goes on; run
again on a complete folder, it checks every byte.
"""

import argparse

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2
from slotseg.config import get_cfg
from slotseg.engine.cli import user_errors
from slotseg.engine.defaults import available_device
from slotseg.engine.feature_cache import FeatureCacheWriter


def main() -> None:
    """Parse, say how much it will be, write, say where."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: tools/cache_features.py --config-file "
        "configs/clevr/ladder/1_dinov2.yaml --output output/features/clevr INPUT.RANDOM_FLIP none",
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help="of the training")
    parser.add_argument(
        "--output", metavar="DIR", help="folder of the cache (default: MODEL.VIT.CACHE)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only print how much it would be")
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, help="options of the config: KEY VALUE ..."
    )
    args = parser.parse_args()
    with user_errors():
        cfg = get_cfg(args.config_file, args.opts)
        output = args.output or cfg.MODEL.VIT.CACHE
        if not output:
            parser.error("--output: say where to write, or set MODEL.VIT.CACHE")
        cfg.MODEL.DEVICE = available_device(cfg.MODEL.DEVICE)
        writer = FeatureCacheWriter(cfg, output)
        print(f"{output}: {writer.plan}", flush=True)
        if args.dry_run:
            return
        written = writer.write()
        print(f"{'written' if written else 'complete already'}, every byte checked")
        print(f"train with: MODEL.VIT.CACHE {output}")


if __name__ == "__main__":
    main()
