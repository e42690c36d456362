#!/usr/bin/env python
"""Measure how fast panoptic quality is scored, side by side with the published way.

The peer is cityscapesscripts' panoptic evaluation (``pip install cityscapesscripts``), in one
process. Both sides score the same generated street-like truth and predictions, one thread each,
image by image in turns, and have to agree to 1e-9.

memory: PanopticQualityEvaluator (the truth's PNG is read and decoded within its time) against
        Detectron2's own COCOPanopticEvaluator, which encodes a PNG an image, writes all, and has
        the peer read, decode and score predictions and truth.
files:  evaluate_files against the peer, both from the same PNGs of truth and prediction.
peak:   the evaluator's peak memory after a tenth of the images and after all of them, each in a
        process of its own.

Prints a table, then the same figures as one line of JSON.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import slotseg  # noqa: F401, I001  before anything can import detectron2

import argparse
import contextlib
import io
import json
import multiprocessing
import sys
import tempfile
import time
import types
from pathlib import Path

import cv2
import numpy as np
import torch
from cityscapesscripts.evaluation import evalPanopticSemanticLabeling as peer
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOPanopticEvaluator
from tqdm import tqdm

from slotseg.classes import Category, set_class_metadata
from slotseg.evaluation.panoptic_evaluator import PanopticQualityEvaluator
from slotseg.evaluation.panoptic_files import evaluate_files
from slotseg.panoptic_png import ids_to_rgb, read_id_map, write_id_map

NAME = "benchmark_street_panoptic"
# The 19 Cityscapes classes: (id in files, name, thing).
STUFF = {7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole"}
STUFF |= {19: "traffic light", 20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky"}
THINGS = {24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train"}
THINGS |= {32: "motorcycle", 33: "bicycle"}
CATEGORIES = [
    Category(number, name, number in THINGS, (number, number, number))
    for number, name in (STUFF | THINGS).items()
]
CONTIGUOUS = {category.id: index for index, category in enumerate(CATEGORIES)}


def smooth_noise(rng: np.random.Generator, size: tuple[int, int], cell: int) -> np.ndarray:
    """Float32 noise ``[H, W]`` that changes over about ``cell`` pixels."""
    coarse = rng.standard_normal((size[0] // cell + 2, size[1] // cell + 2)).astype(np.float32)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)


def street_truth(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Cityscapes instance ids ``[H, W]``: ragged stuff regions, 40 things, a crowd, void."""
    height, width = size
    rows = np.arange(height, dtype=np.float32)[:, None]
    wavy = rows / height + 0.08 * smooth_noise(rng, size, 64) + 0.01 * smooth_noise(rng, size, 8)
    bands = np.array([23, 21, 11, 13, 8, 7], np.int32)
    ids = bands[np.clip((wavy * len(bands)).astype(int), 0, len(bands) - 1)]
    for number in (12, 22, 19, 20):
        ids[smooth_noise(rng, size, 96) > 2.1] = number
    for left in rng.integers(0, width - 12, 8):
        ids[height // 4 : height * 3 // 4, left : left + rng.integers(3, 12)] = 17
    edge = 0.1 * smooth_noise(rng, size, 16)
    for number in range(40):
        center = height * rng.uniform(0.35, 0.9), width * rng.random()
        radii = rng.uniform(8, height / 8), rng.uniform(8, width / 12)
        draw_blob(ids, edge, center, radii, int(rng.choice(list(THINGS))) * 1000 + number)
    draw_blob(ids, edge, (height / 2, width / 3), (40, 90), 24)
    ids[-height // 16 :] = 0
    return ids


def draw_blob(
    ids: np.ndarray,
    edge: np.ndarray,
    center: tuple[float, float],
    radii: tuple[float, float],
    number: int,
) -> None:
    """An ellipse with a border as uneven as ``edge``."""
    window = tuple(
        slice(max(0, int(c - 2 * r)), min(side, int(c + 2 * r)))
        for c, r, side in zip(center, radii, ids.shape, strict=True)
    )
    rows, columns = np.ogrid[window]
    inside = np.hypot((rows - center[0]) / radii[0], (columns - center[1]) / radii[1])
    ids[window][inside + edge[window] < 1] = number


def prediction_of(rng: np.random.Generator, truth: np.ndarray) -> np.ndarray:
    """The truth with displaced and ragged borders, merged and lost segments, no void."""
    size = truth.shape
    rows, columns = (grid.astype(np.float32) for grid in np.mgrid[: size[0], : size[1]])
    shift = [3 * smooth_noise(rng, size, 24) + smooth_noise(rng, size, 4) for _ in range(2)]
    moved = cv2.remap(  # float32 holds every id below 2**24
        truth.astype(np.float32), columns + shift[0], rows + shift[1], cv2.INTER_NEAREST
    ).astype(np.int32)
    moved[moved == 0] = 7
    for number in np.unique(moved[moved >= 1000])[::6]:
        moved[moved == number] = 11
    moved[smooth_noise(rng, size, 48) > 2.6] = 26999
    return moved


def segments_of(ids: np.ndarray) -> list[dict]:
    """``segments_info`` with ids of files, as cityscapesscripts writes it."""
    found, areas = np.unique(ids, return_counts=True)
    return [
        {
            "id": number,
            "category_id": number if number < 1000 else number // 1000,
            "iscrowd": int(number in THINGS),
            "area": area,
        }
        for number, area in zip(found.tolist(), areas.tolist(), strict=True)
        if number
    ]


def make_files(folder: Path, images: int, size: tuple[int, int], seed: int) -> None:
    """``gt.json``, ``gt/``, ``pred.json`` and ``pred/``."""
    annotations: dict[str, list] = {"gt": [], "pred": []}
    for index in tqdm(range(images), desc="generating", unit="image", disable=None):
        rng = np.random.default_rng([seed, index])
        truth = street_truth(rng, size)
        for side, ids in (("gt", truth), ("pred", prediction_of(rng, truth))):
            name = f"{index:06d}.png"
            write_id_map(str(folder / side / name), ids)
            entry = {"image_id": name[:-4], "file_name": name, "segments_info": segments_of(ids)}
            annotations[side].append(entry)
    categories = [{"id": c.id, "name": c.name, "isthing": int(c.is_thing)} for c in CATEGORIES]
    for side, entries in annotations.items():
        content = {"images": [], "annotations": entries, "categories": categories}
        (folder / f"{side}.json").write_text(json.dumps(content))


def register(folder: Path) -> None:
    """What both evaluators look up."""
    metadata = MetadataCatalog.get(NAME)
    metadata.set(panoptic_json=str(folder / "gt.json"), panoptic_root=str(folder / "gt"))
    set_class_metadata(NAME, CATEGORIES)


def load(folder: Path, side: str) -> list[dict]:
    return json.loads((folder / f"{side}.json").read_text())["annotations"]


def contiguous(segments: list[dict]) -> list[dict]:
    """Segments as data set dicts and models have them."""
    return [
        {
            **segment,
            "category_id": CONTIGUOUS[segment["category_id"]],
            "isthing": segment["category_id"] in THINGS,
        }
        for segment in segments
    ]


def data_set_dict(folder: Path, annotation: dict) -> dict:
    return {
        "file_name": annotation["file_name"],
        "image_id": annotation["image_id"],
        "pan_seg_file_name": str(folder / "gt" / annotation["file_name"]),
        "segments_info": contiguous(annotation["segments_info"]),
    }


def model_output(folder: Path, annotation: dict) -> dict:
    ids = read_id_map(str(folder / "pred" / annotation["file_name"]))
    return {"panoptic_seg": (torch.from_numpy(ids), contiguous(annotation["segments_info"]))}


def peer_scores(gt_json: str, pred_json: str, gt_folder: str, pred_folder: str) -> dict:
    """The peer's evaluation in this process: its own loop over images and its own averages."""
    truth, prediction = (json.loads(Path(path).read_text()) for path in (gt_json, pred_json))
    categories = {entry["id"]: entry for entry in truth["categories"]}
    predicted = {entry["image_id"]: entry for entry in prediction["annotations"]}
    pairs = [(entry, predicted[entry["image_id"]]) for entry in truth["annotations"]]
    with contextlib.redirect_stdout(io.StringIO()):
        stat = peer.pq_compute_single_core(0, pairs, gt_folder, pred_folder, categories)
    return peer.average_pq(stat, categories)


def install_peer() -> None:
    """COCOPanopticEvaluator imports ``panopticapi``, which is not on the package index.

    Its evaluation is replaced by the peer's, which is the same code, and its conversion of ids to
    colours by this project's, which is faster.
    """
    package, evaluation, utils = (
        types.ModuleType(f"panopticapi{part}") for part in ("", ".evaluation", ".utils")
    )
    evaluation.pq_compute = peer_scores
    utils.id2rgb = ids_to_rgb
    sys.modules |= {module.__name__: module for module in (package, evaluation, utils)}


class Clock:
    """Seconds spent inside ``with`` blocks."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._start


def measure_memory_path(folder: Path) -> dict[str, float]:
    """Predictions arrive one by one, as from a model; making them is not timed."""
    ours, theirs = Clock(), Clock()
    with tempfile.TemporaryDirectory() as output_dir:
        evaluator = PanopticQualityEvaluator(NAME, images_expected=len(load(folder, "gt")))
        reference = COCOPanopticEvaluator(NAME, output_dir)
        evaluator.reset()
        reference.reset()
        pairs = list(zip(load(folder, "gt"), load(folder, "pred"), strict=True))
        for truth, prediction in tqdm(pairs, desc="in memory", unit="image", disable=None):
            item, output = data_set_dict(folder, truth), model_output(folder, prediction)
            with ours:
                evaluator.process([item], [output])
            with theirs:
                reference.process([item], [output])
        with ours:
            scores = evaluator.evaluate()["panoptic"]
        with theirs:
            expected = reference.evaluate()["panoptic_seg"]
    for name, key in (("", ""), ("_things", "_th"), ("_stuff", "_st")):
        for quality in ("PQ", "SQ", "RQ"):
            check_equal(quality + name, scores[quality + name] / 100, expected[quality + key] / 100)
    return figures(ours, theirs, len(pairs)) | {"PQ": scores["PQ"]}


def measure_file_path(folder: Path, repeats: int) -> dict[str, float]:
    """Both from the same PNGs; the faster of each side's repetitions counts."""
    paths = [str(folder / name) for name in ("gt.json", "gt", "pred.json", "pred")]
    gt_json, gt_folder, pred_json, pred_folder = paths
    clocks: tuple[list[Clock], list[Clock]] = ([], [])
    for _ in range(repeats):
        for side in clocks:
            side.append(Clock())
        with clocks[0][-1]:
            report = evaluate_files(gt_json, gt_folder, pred_json, pred_folder)
        with clocks[1][-1]:
            expected = peer_scores(gt_json, pred_json, gt_folder, pred_folder)
    for category, quality in zip(CATEGORIES, report.per_class, strict=True):
        if quality.tp + quality.fp + quality.fn:
            for key in ("pq", "sq", "rq"):
                reference = expected["per_class"][category.id][key]
                check_equal(f"{key} of {category.name}", getattr(quality, key), reference)
    best = [min(side, key=lambda clock: clock.seconds) for side in clocks]
    return figures(*best, report.images)


def check_equal(name: str, value: float, expected: float) -> None:
    if abs(value - expected) > 1e-9:
        raise SystemExit(f"{name} is {value!r}, the peer has {expected!r}")


def figures(ours: Clock, theirs: Clock, images: int) -> dict[str, float]:
    return {
        "images": images,
        "ours_ms": 1000 * ours.seconds / images,
        "peer_ms": 1000 * theirs.seconds / images,
        "ratio": theirs.seconds / ours.seconds,
    }


def peak_memory(folder: Path, images: int) -> float:
    """Peak of a fresh process that scores ``images`` images, in MiB."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_score_and_measure, (folder, images))


def _score_and_measure(folder: Path, images: int) -> float:
    single_thread()
    register(folder)
    evaluator = PanopticQualityEvaluator(NAME, images_expected=images)
    pairs = list(zip(load(folder, "gt"), load(folder, "pred"), strict=True))
    for truth, prediction in pairs[:images]:
        evaluator.process([data_set_dict(folder, truth)], [model_output(folder, prediction)])
    evaluator.evaluate()
    # Not ru_maxrss: it counts the parent process, whose memory a child shares until it starts.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def single_thread() -> None:
    """Neither side gets a second core."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def main() -> None:
    """Generate, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--image-size", nargs=2, type=int, default=(1024, 2048), metavar=("H", "W"))
    parser.add_argument("--repeats", type=int, default=2, help="of the file path (default 2)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    single_thread()
    install_peer()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder, args.images, tuple(args.image_size), args.seed)
        register(folder)
        result = {
            "memory": measure_memory_path(folder),
            "files": measure_file_path(folder, args.repeats),
        }
        few = max(1, args.images // 10)
        peaks = {str(count): peak_memory(folder, count) for count in (few, args.images)}
    for path, values in result.items():
        print(
            f"{path:7s} {values['ours_ms']:8.1f} ms an image, peer {values['peer_ms']:8.1f} ms: "
            f"{values['ratio']:.1f}x"
        )
    print(
        "peak   ",
        ", ".join(f"{value:.0f} MiB for {count} images" for count, value in peaks.items()),
    )
    print(json.dumps({"size": list(args.image_size), **result, "peak_mib": peaks}))


if __name__ == "__main__":
    main()
