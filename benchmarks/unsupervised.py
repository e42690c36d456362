"""Slots against two trivial baselines without labels, all under one protocol.

python benchmarks/unsupervised.py --weights output/cityscapes_unsupervised_generated/model_final.pth

Clusters of slots, of the encoder's features at every patch, and of colour and position at every
pixel: found on the same training images, told into things and stuff by the same rule, given classes
on the same set. Writes a table, results.json and pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2

import numpy as np  # isort: skip
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from PIL import Image
from tabulate import tabulate
from torch import nn
from tqdm import tqdm

from slotseg.config import get_cfg
from slotseg.data import build_test_loader
from slotseg.data.images import read_image
from slotseg.engine.checkpoint import load_weights
from slotseg.engine.cli import mark_overrides, user_errors
from slotseg.engine.inference import inference_mode
from slotseg.engine.rng import forked_rng, seed_all
from slotseg.engine.trainer import Trainer
from slotseg.engine.unsupervised import with_clusters
from slotseg.evaluation.cluster_assignment import EXTRA_CLUSTERS
from slotseg.evaluation.cluster_evaluator import CLUSTERS, ClusterPanopticEvaluator
from slotseg.files import write_atomically
from slotseg.panoptic_png import read_id_map
from slotseg.visualization.panoptic_examples import Segments, draw_panoptic_map

METHODS = {
    "slots": "slots",
    "features": "k-means on encoder features",
    "colors": "k-means on colour and position",
}
EXTRA = {"majority": "many to one", "void": "one to one"}
SCORES = ("PQ", "PQ_things", "PQ_stuff", "SQ", "RQ")


def score(cfg: CfgNode, model: nn.Module, pictures: int) -> tuple[list[dict], list[np.ndarray]]:
    """One method: a row for each treatment of extra clusters, and predictions in class colours."""
    name, clusters = cfg.DATASETS.TEST[0], cfg.UNSUPERVISED.CLUSTERS
    segmenter = with_clusters(cfg, model)
    evaluators = {
        extra: ClusterPanopticEvaluator(name, clusters, extra=extra) for extra in EXTRA_CLUSTERS
    }
    shown = []
    with forked_rng(max(cfg.SEED, 0)), inference_mode(segmenter):
        for batch in tqdm(build_test_loader(cfg, name), desc=cfg.UNSUPERVISED.PARTS, disable=None):
            outputs = segmenter(batch)
            for evaluator in evaluators.values():
                evaluator.process(batch, outputs)
            shown += [output["panoptic_seg"] for output in outputs[: pictures - len(shown)]]
    rows = []
    for extra, evaluator in evaluators.items():
        results = evaluator.evaluate()
        scores = {key: results["panoptic"][key] for key in SCORES}
        rows.append({"method": METHODS[cfg.UNSUPERVISED.PARTS], "assignment": EXTRA[extra]})
        rows[-1] |= scores | results[CLUSTERS]
    classes = evaluators["majority"].assignment
    return rows, [_colored(ids.numpy(), info, classes, name) for ids, info in shown]


def write_pictures(cfg: CfgNode, drawn: dict[str, list[np.ndarray]], folder: str) -> None:
    """Image, truth and every method side by side, one file an image."""
    count = min(map(len, drawn.values()))
    metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
    items = [item for batch in build_test_loader(_few(cfg, count), metadata.name) for item in batch]
    for number, item in enumerate(items):
        truth = Segments(read_id_map(item["pan_seg_file_name"]), item["segments_info"])
        panels = [read_image(item["file_name"], "RGB"), draw_panoptic_map(truth, metadata)]
        panels += [pictures[number] for pictures in drawn.values()]
        os.makedirs(folder, exist_ok=True)
        Image.fromarray(np.concatenate(panels, 0)).save(os.path.join(folder, f"{number}.png"))


def _few(cfg: CfgNode, count: int) -> CfgNode:
    cfg = cfg.clone()
    cfg.DATASETS.MAX_IMAGES = count
    return cfg


def _colored(ids: np.ndarray, info: list[dict], classes: np.ndarray, name: str) -> np.ndarray:
    known = [{**s, "category_id": int(classes[s["category_id"]])} for s in info]
    segments = Segments(ids, [s for s in known if s["category_id"] >= 0])
    return draw_panoptic_map(segments, MetadataCatalog.get(name))


def main() -> None:
    """Score all methods and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--config-file", default="configs/cityscapes/unsupervised_generated.yaml", metavar="FILE"
    )
    parser.add_argument("--weights", required=True, metavar="FILE", help="of a trained run")
    parser.add_argument("--output", default="output/unsupervised_table", metavar="DIR")
    parser.add_argument(
        "--methods", nargs="+", choices=list(METHODS), default=list(METHODS), help="(default all)"
    )
    parser.add_argument("--pictures", type=int, default=4, help="images drawn (default 4)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="options: KEY VALUE ...")
    args = parser.parse_args(mark_overrides(sys.argv[1:]))
    with user_errors():
        opts = [option for option in args.opts if option != "--"]
        cfg = get_cfg(args.config_file, ["MODEL.DEVICE", "cpu", *opts])
        seed_all(max(cfg.SEED, 0))
        model = Trainer.build_model(cfg)
        load_weights(model, args.weights)
        rows, drawn = [], {}
        for parts in args.methods:
            cfg.UNSUPERVISED.PARTS = parts
            cfg.OUTPUT_DIR = os.path.join(args.output, parts)
            found, drawn[parts] = score(cfg, model, args.pictures)
            rows += found
        write_pictures(cfg, drawn, args.output)
        content = {"dataset": cfg.DATASETS.TEST[0], "images": cfg.UNSUPERVISED.IMAGES, "rows": rows}
        text = json.dumps(content, indent=2) + "\n"
        write_atomically(os.path.join(args.output, "results.json"), text)
        table = _table(rows)
        write_atomically(os.path.join(args.output, "results.md"), table + "\n")
    print(table)


def _table(rows: list[dict]) -> str:
    names = ("method", "assignment", *SCORES, "accuracy", "mIoU", "clusters", "thing_clusters")
    names += ("assigned_clusters", "matched_classes", "classes")
    cells = [
        [f"{row[n]:.0f}" if "cl" in n and n != "method" else row[n] for n in names] for row in rows
    ]
    return tabulate(cells, names, tablefmt="github", floatfmt=".2f")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
