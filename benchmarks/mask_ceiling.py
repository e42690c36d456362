"""What perfect slots could score with masks at a stride: the true masks, averaged down and resized.

python benchmarks/mask_ceiling.py
"""

from __future__ import annotations

import argparse

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2

import torch  # isort: skip
import torch.nn.functional as F
from tabulate import tabulate

from slotseg.config import get_cfg
from slotseg.data import build_test_loader
from slotseg.engine.cli import user_errors
from slotseg.evaluation.clustering import (
    adjusted_rand_index,
    contingency_table,
    foreground_adjusted_rand_index,
)
from slotseg.losses.masks import coverage


def ceiling(segment_maps: torch.Tensor, stride: int) -> tuple[float, float]:
    """Mean ARI and FG-ARI of true maps ``[B, H, W]`` whose masks went through ``stride``."""
    height, width = segment_maps.shape[1:]
    masks = coverage(segment_maps, (height // stride, width // stride))
    resized = F.interpolate(masks, (height, width), mode="bilinear", align_corners=False)
    found = resized.argmax(dim=1)
    segments = masks.shape[1]
    table = contingency_table(found, segment_maps, segments, segments)
    # Segment 0 is the background.
    is_object = (torch.arange(segments) > 0).expand(len(table), -1)
    foreground = foreground_adjusted_rand_index(table, is_object)
    return float(adjusted_rand_index(table).mean()), float(foreground.nanmean())


def main() -> None:
    """Print one row a stride."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="clevr_generated_tune", help="scenes (default tune)")
    parser.add_argument("--images", type=int, default=64, help="of them (default 64)")
    args = parser.parse_args()
    with user_errors():
        options = ["DATALOADER.NUM_WORKERS", 0, "TEST.IMS_PER_BATCH", args.images]
        # Ten objects and the background: no slots here, but the loader counts what they could hold.
        cfg = get_cfg(overrides=[*options, "MODEL.SLOTS.NUM_SLOTS", 11])
        batch = next(iter(build_test_loader(cfg, args.dataset)))
        maps = torch.stack([scene["segment_map"] for scene in batch])
        rows = [(stride, *ceiling(maps, stride)) for stride in (2, 4, 8, 16)]
    print(tabulate(rows, ("stride", "ARI", "FG-ARI"), tablefmt="github", floatfmt=".3f"))


if __name__ == "__main__":
    main()
