#!/usr/bin/env python
"""Measure how far colour and place alone get: the panoptic quality of a per-pixel classifier.

A random forest on the five features red, green, blue, row and column is trained on pixels of the
training images and labels every pixel of the test images by itself. Each stuff class then is one
segment, each connected region of a thing class an instance, and segments that are too small are
dropped; how small is chosen on the tuning images. Generated street scenes are meant to be hard for
it: below 35 PQ. Needs scikit-learn, and data sets that are registered in panoptic form. The file of
--output is a row for `tools/compare.py --add`.
"""

import argparse
import json
import math
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier
from tqdm import tqdm

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2
from slotseg.classes import IGNORE_LABEL, ClassSet, class_set
from slotseg.data.images import read_image
from slotseg.engine import user_errors
from slotseg.engine.run_info import command_line, machine
from slotseg.evaluation.panoptic_quality import PanopticCounts, SegmentMap, count_image
from slotseg.evaluation.panoptic_report import PanopticReport
from slotseg.files import write_atomically
from slotseg.panoptic_png import read_id_map

# Smallest segments that are kept, as shares of the image.
LIMITS = (0.0, 0.0002, 0.001, 0.004)


def features(image: np.ndarray) -> np.ndarray:
    """float32 [H * W, 5]: colour, and place as shares of the height and the width."""
    height, width = image.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    place = np.stack([rows / height, columns / width], axis=-1)
    return np.concatenate([image.astype(np.float32) / 255, place], axis=-1).reshape(-1, 5)


def semantic_map(ids: np.ndarray, segments: list[dict]) -> np.ndarray:
    """uint8 [H, W]: the class of every pixel, :data:`IGNORE_LABEL` in void and crowd."""
    classes = np.full(ids.shape, IGNORE_LABEL, np.uint8)
    for segment in segments:
        if not segment["iscrowd"]:
            classes[ids == segment["id"]] = segment["category_id"]
    return classes


def training_pixels(
    records: list[dict], per_image: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, 5] and classes [N] of randomly chosen pixels."""
    samples, labels = [], []
    for record in tqdm(records, desc="pixels", unit="image", disable=None):
        classes = semantic_map(read_id_map(record["pan_seg_file_name"]), record["segments_info"])
        known = np.flatnonzero(classes.ravel() != IGNORE_LABEL)
        chosen = rng.choice(known, min(per_image, len(known)), replace=False)
        samples.append(features(read_image(record["file_name"]))[chosen])
        labels.append(classes.ravel()[chosen])
    return np.concatenate(samples), np.concatenate(labels)


def panoptic_map(classes: np.ndarray, known: ClassSet, limit: float) -> SegmentMap:
    """One segment for each stuff class and for each connected region of a thing class."""
    ids = np.zeros(classes.shape, np.int32)
    segments: list[dict] = []
    smallest = max(limit * classes.size, 1)
    for number in np.unique(classes).tolist():
        mask = (classes == number).astype(np.uint8)
        regions = mask.astype(np.int32)
        if known.is_thing[number]:
            _, regions = cv2.connectedComponents(mask, connectivity=8)
        areas = np.bincount(regions.ravel())
        kept = np.flatnonzero(areas >= smallest)
        new_ids = np.zeros(len(areas), np.int32)
        for region in kept[kept > 0].tolist():
            segments.append({"id": len(segments) + 1, "category_id": number})
            new_ids[region] = len(segments)
        ids += new_ids[regions]
    return SegmentMap(ids, segments, "prediction")


def score(
    forest: RandomForestClassifier, records: list[dict], known: ClassSet, limits: tuple[float, ...]
) -> tuple[list[PanopticReport], float]:
    """A report for each limit, and the share of the pixels whose class is right."""
    categories = {number: number for number in range(len(known))}
    counts = [PanopticCounts.zeros(len(known)) for _ in limits]
    correct = total = 0
    for record in tqdm(records, desc="score", unit="image", disable=None):
        image = read_image(record["file_name"])
        predicted = forest.predict(features(image)).reshape(image.shape[:2]).astype(np.uint8)
        ids = read_id_map(record["pan_seg_file_name"])
        classes = semantic_map(ids, record["segments_info"])
        correct += int((predicted == classes).sum())
        total += int((classes != IGNORE_LABEL).sum())
        truth = SegmentMap(ids, record["segments_info"], record["pan_seg_file_name"])
        for count, limit in zip(counts, limits, strict=True):
            count += count_image(truth, panoptic_map(predicted, known, limit), categories)
    reports = [PanopticReport.from_counts(known, count, len(records)) for count in counts]
    return reports, correct / total


def main() -> None:
    """Train, choose, score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", default="cityscapes_generated_train", help="name of the set")
    parser.add_argument("--tune", default="cityscapes_generated_tune", help="name of the set")
    parser.add_argument("--test", default="cityscapes_generated_val", help="name of the set")
    parser.add_argument("--train-images", type=int, default=400, help="at most (default 400)")
    parser.add_argument("--tune-images", type=int, default=40, help="at most (default 40)")
    parser.add_argument("--test-images", type=int, default=200, help="at most (default 200)")
    parser.add_argument("--pixels", type=int, default=1500, help="per image (default 1500)")
    parser.add_argument("--trees", type=int, default=40, help="of the forest (default 40)")
    parser.add_argument("--leaf", type=int, default=10, help="pixels in a leaf (default 10)")
    parser.add_argument("--jobs", type=int, default=1, help="processes of the forest (default 1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", help="JSON file of the result")
    args = parser.parse_args()
    with user_errors():
        run(args)


def run(args: argparse.Namespace) -> None:
    """Everything after the arguments are known."""
    from detectron2.data import DatasetCatalog  # after slotseg, which makes it importable

    known = class_set(args.train)
    train = DatasetCatalog.get(args.train)[: args.train_images]
    tune = DatasetCatalog.get(args.tune)[: args.tune_images]
    test = DatasetCatalog.get(args.test)[: args.test_images]
    start = time.perf_counter()
    samples, labels = training_pixels(train, args.pixels, np.random.default_rng(args.seed))
    forest = RandomForestClassifier(
        args.trees, min_samples_leaf=args.leaf, n_jobs=args.jobs, random_state=args.seed
    ).fit(samples, labels)
    trained = time.perf_counter() - start
    tuned, _ = score(forest, tune, known, LIMITS)
    limit, _ = max(zip(LIMITS, tuned, strict=True), key=lambda pair: pair[1].groups["all"].pq)
    (report,), accuracy = score(forest, test, known, (limit,))
    print(report.table())
    print(
        f"segments below {100 * limit:.2f} % of the image dropped; pixel accuracy "
        f"{100 * accuracy:.1f} %; trained in {trained:.0f} s"
    )
    if args.output:
        row = {
            "name": "colour and place alone (random forest)",
            "panoptic": {
                # A class that never occurs has no score, and JSON no word for that but null.
                key: None if math.isnan(value) else value
                for key, value in report.scores().items()
            },
            "smallest_share": limit,
            "pixel_accuracy": 100 * accuracy,
            "train_images": len(train),
            "train_seconds": trained,
            "command": command_line(),
            "seed": args.seed,
            "machine": machine(torch.device("cpu")),
            "date": time.strftime("%Y-%m-%d"),
        }
        write_atomically(args.output, json.dumps(row, indent=1) + "\n")


if __name__ == "__main__":
    main()
