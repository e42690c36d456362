#!/usr/bin/env python
"""Measure how good a model's pseudo labels are, for every filter and threshold.

python benchmarks/pseudo_labels.py --config-file configs/cityscapes/slot_peaks_generated.yaml

Labels the first set of DATASETS.TEST, whose truth is known, with the weights of the config's run
(or MODEL.WEIGHTS), and compares: which share of the pixels is kept, how many of the kept and of the
dropped ones have the right class, how many of the kept segments match a true one, and the panoptic
quality of the labels. A filter is worth its while if what it keeps is better than what it drops.
Each threshold is tried alone, everything else off; the first row is what the config says. The area
under the curve tells how well a measure of uncertainty finds wrong pixels: 0.5 is chance, 1 is all.
"""

from __future__ import annotations

import argparse
import json
import sys

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2

from detectron2.config import CfgNode  # isort: skip
from tabulate import tabulate
from tqdm import tqdm

from slotseg import get_cfg
from slotseg.classes import training_classes
from slotseg.data import build_test_loader
from slotseg.engine.checkpoint import load_weights, weights_for_inference
from slotseg.engine.cli import mark_overrides, user_errors
from slotseg.engine.defaults import available_device
from slotseg.engine.pseudo_label_scores import LabelSetting, score_pseudo_labels
from slotseg.engine.rng import seed_all
from slotseg.engine.trainer import Trainer
from slotseg.files import write_atomically
from slotseg.semi import PseudoLabeller
from slotseg.semi.filtering import LabelFilter

UNCERTAINTIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
CONFIDENCES = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)


def settings_of(cfg: CfgNode, measures: list[str]) -> list[LabelSetting]:
    """What the config says, nothing at all, and one threshold after the other."""
    labeller = PseudoLabeller(cfg)
    everything = LabelFilter(0.0, 0.0, 1.0)
    return [
        LabelSetting("config", labeller.uncertainty.measure, labeller.filters),
        LabelSetting("no filter", "none", everything),
        *(
            LabelSetting(f"{measure} <= {value:g}", measure, LabelFilter(0.0, 0.0, value))
            for measure in measures
            for value in UNCERTAINTIES
        ),
        *(
            LabelSetting(f"confidence >= {value:g}", "none", LabelFilter(value, value, 1.0))
            for value in CONFIDENCES
        ),
    ]


def main() -> None:
    """Label, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument(
        "--measures", nargs="*", default=["entropy", "view_variance"], metavar="NAME"
    )
    parser.add_argument("--images", type=int, default=0, help="only the first so many; 0: all")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to this file")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config keys")
    args = parser.parse_args(mark_overrides(sys.argv[1:]))
    with user_errors():
        cfg = get_cfg(args.config_file, args.opts)
        cfg.MODEL.DEVICE = available_device(cfg.MODEL.DEVICE)
        cfg.DATASETS.MAX_IMAGES = args.images or cfg.DATASETS.MAX_IMAGES
        seed_all(max(cfg.SEED, 0))
        model = Trainer.build_model(cfg)
        weights = weights_for_inference(cfg)
        load_weights(
            model, weights, trust_pickle=cfg.MODEL.TRUST_PICKLE, weights_of=cfg.TEST.WEIGHTS_OF
        )
        scores, measures = score_pseudo_labels(
            model,
            tqdm(build_test_loader(cfg, cfg.DATASETS.TEST[0]), unit="batch", disable=None),
            settings_of(cfg, args.measures),
            training_classes(cfg).is_thing,
        )
    rows = [{"labels": score.setting.name, **score.row()} for score in scores]
    areas = {name: measure.area_under_curve() for name, measure in measures.items()}
    print(f"{weights} on {cfg.DATASETS.TEST[0]}, in percent")
    print(tabulate(rows, headers="keys", floatfmt=".2f"))
    for name, area in areas.items():
        print(f"area under the curve of {name}: {area:.3f}")
    if args.json:
        content = {"weights": weights, "set": cfg.DATASETS.TEST[0], "rows": rows, "areas": areas}
        write_atomically(args.json, json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
