"""What perfect slots could score with masks at a stride: the true masks, averaged down and resized.

Of scene folders the ARI, of panoptic sets the panoptic quality, at the size of the files.

python benchmarks/mask_ceiling.py
python benchmarks/mask_ceiling.py --dataset cityscapes_generated_tune --size 128 256
"""

from __future__ import annotations

import argparse
from typing import Any

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2

import torch  # isort: skip
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from tabulate import tabulate

from slotseg.classes import class_set
from slotseg.config import get_cfg
from slotseg.data import build_test_loader
from slotseg.engine.cli import user_errors
from slotseg.evaluation.clustering import (
    adjusted_rand_index,
    contingency_table,
    foreground_adjusted_rand_index,
)
from slotseg.evaluation.panoptic_evaluator import PanopticQualityEvaluator
from slotseg.losses.coverage import coverage

STRIDES = (1, 2, 4, 8, 16)


def through_stride(segment_maps: torch.Tensor, stride: int, size: tuple[int, int]) -> torch.Tensor:
    """Shares ``[B, S, *size]`` of true maps ``[B, H, W]`` whose masks went through ``stride``."""
    height, width = segment_maps.shape[1:]
    masks = coverage(segment_maps, (height // stride, width // stride))
    return F.interpolate(masks, size, mode="bilinear", align_corners=False)


def slot_ceiling(segment_maps: torch.Tensor, stride: int) -> tuple[float, float]:
    """Mean ARI and FG-ARI of maps ``[B, H, W]``, at their own size."""
    masks = through_stride(segment_maps, stride, tuple(segment_maps.shape[1:]))
    segments = masks.shape[1]
    table = contingency_table(masks.argmax(dim=1), segment_maps, segments, segments)
    # Segment 0 is the background.
    is_object = (torch.arange(segments) > 0).expand(len(table), -1)
    foreground = foreground_adjusted_rand_index(table, is_object)
    return float(adjusted_rand_index(table).mean()), float(foreground.nanmean())


def panoptic_ceiling(cfg: CfgNode, dataset: str, stride: int) -> tuple[float, float, float]:
    """PQ of all classes, of things and of stuff over the whole set."""
    evaluator = PanopticQualityEvaluator(dataset)
    is_thing = class_set(dataset).is_thing
    for batch in build_test_loader(cfg, dataset):
        evaluator.process(batch, [perfect_slots(item, stride, is_thing) for item in batch])
    scores = evaluator.evaluate()["panoptic"]
    return scores["PQ"], scores["PQ_things"], scores["PQ_stuff"]


def perfect_slots(item: dict[str, Any], stride: int, is_thing: tuple[bool, ...]) -> dict[str, Any]:
    """An image's output if slots knew every segment that is no crowd, but only at a stride."""
    masks = through_stride(item["segment_map"][None], stride, (item["height"], item["width"]))[0]
    # Listed segments may be absent from the map, at the end of the list.
    masks[item["segment_is_crowd"][: len(masks)].nonzero()[:, 0]] = 0.0
    winner = masks.argmax(dim=0).int()
    areas = torch.bincount(winner.flatten(), minlength=len(masks)).tolist()
    categories = item["segment_category"].tolist()
    segments = [
        {"id": s + 1, "category_id": c, "isthing": is_thing[c], "area": area}
        for s, (c, area) in enumerate(zip(categories, areas, strict=False))
        if area
    ]
    return {"panoptic_seg": (winner + 1, segments)}


def main() -> None:
    """Print one row a stride."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="clevr_generated_tune", help="set (default tune)")
    parser.add_argument("--images", type=int, default=64, help="of it (default 64)")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(128, 128), metavar=("H", "W"), help="of the input"
    )
    args = parser.parse_args()
    with user_errors():
        options = ["DATALOADER.NUM_WORKERS", 0, "TEST.IMS_PER_BATCH", args.images]
        options += ["DATASETS.MAX_IMAGES", args.images, "INPUT.IMAGE_SIZE", tuple(args.size)]
        # No slots here, but the loader counts what they could hold.
        cfg = get_cfg(overrides=[*options, "MODEL.SLOTS.NUM_SLOTS", 1000])
        if MetadataCatalog.get(args.dataset).get("evaluator_type") == "panoptic":
            names = ("PQ", "PQ things", "PQ stuff")
            rows = [(s, *panoptic_ceiling(cfg, args.dataset, s)) for s in STRIDES]
        else:
            names = ("ARI", "FG-ARI")
            batch = next(iter(build_test_loader(cfg, args.dataset)))
            maps = torch.stack([scene["segment_map"] for scene in batch])
            rows = [(s, *slot_ceiling(maps, s)) for s in STRIDES]
    print(tabulate(rows, ("stride", *names), tablefmt="github", floatfmt=".3f"))


if __name__ == "__main__":
    main()
