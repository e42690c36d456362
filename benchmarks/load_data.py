#!/usr/bin/env python
"""Measure how many images a second the panoptic mapper delivers, and where the time goes.

Generated street scenes of 1024x2048 are read from files (images as PNG like Cityscapes, or as JPEG
like BDD100K) and delivered at 512x1024.

loader:  images/s from two worker processes, by the clock, in turns with the peer: the same steps
         with Detectron2's own functions and loader (read_image, ResizeScale, FixedSizeCrop,
         RandomFlip on the RGB ids, as its Panoptic-DeepLab project does it; then one comparison a
         segment).
views:   images/s where the mapper makes the two views of an unlabelled image instead.
empty:   the same loader with a mapper that has nothing to do: the limit that transport sets.
profile: processor time an image of every step in one process, for both.

Prints tables, then the same figures as one line of JSON.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import slotseg  # noqa: F401, I001  before anything can import detectron2

import argparse
import copy
import functools
import itertools
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_train_loader
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from PIL import Image
from tqdm import tqdm

from slotseg.config import get_cfg
from slotseg.data import build_train_loader, panoptic_mapper
from slotseg.data.datasets.cityscapes import CATEGORIES
from slotseg.data.panoptic_mapper import PanopticMapper
from slotseg.data.synthetic.streets import render_street
from slotseg.data.transport import pack, unpack
from slotseg.data.two_views import TwoViewMapper
from slotseg.panoptic_png import write_id_map

NAME = "benchmark_load_data"
FILE_SIZE, SIZE, JITTER = (1024, 2048), (512, 1024), (0.5, 2.0)
BATCH = 4
# Batches that loaders keep ready; they are drained before the clock starts.
READY = 4
NUMBERS = {category.id: number for number, category in enumerate(CATEGORIES)}


def make_files(folder: Path, images: int, seed: int, extension: str) -> list[dict[str, Any]]:
    """Data set dicts of generated street scenes."""
    dicts = []
    for index in tqdm(range(images), desc="generating", unit=" images", disable=None):
        scene = render_street(seed, index, FILE_SIZE)
        labels = np.where(scene.instance_ids < 1000, scene.instance_ids, scene.label_ids)
        ids = np.where(np.isin(labels, list(NUMBERS)), scene.instance_ids, 0).astype(np.int32)
        image, png = str(folder / f"{index}.{extension}"), str(folder / f"{index}_ids.png")
        Image.fromarray(scene.image).save(image, **({"quality": 90} if extension == "jpg" else {}))
        write_id_map(png, ids)
        segments = []
        for number, area in zip(*np.unique(ids[ids > 0], return_counts=True), strict=True):
            category = CATEGORIES[NUMBERS[int(number if number < 1000 else number // 1000)]]
            segments.append(
                {
                    "id": int(number),
                    "category_id": NUMBERS[category.id],
                    "isthing": category.is_thing,
                    "iscrowd": int(category.is_thing and number < 1000),
                    "area": int(area),
                }
            )
        dicts.append(
            {
                "file_name": image,
                "image_id": str(index),
                "height": FILE_SIZE[0],
                "width": FILE_SIZE[1],
                "pan_seg_file_name": png,
                "segments_info": segments,
            }
        )
    return dicts


class PeerMapper:
    """The same result from Detectron2's own functions."""

    def __init__(self) -> None:
        self.augmentations = T.AugmentationList(
            [
                T.ResizeScale(*JITTER, *SIZE),
                T.FixedSizeCrop(SIZE, pad_value=128),
                T.RandomFlip(),
            ]
        )

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map one data set dict."""
        mapped = copy.deepcopy(dataset_dict)
        image = self.read_image(mapped["file_name"])
        rgb = self.read_map(mapped["pan_seg_file_name"])
        image, rgb = self.augment(image, rgb)
        mapped["image"] = torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))
        mapped["segment_map"] = self.number_segments(rgb, mapped["segments_info"])
        return mapped

    def read_image(self, path: str) -> np.ndarray:
        return utils.read_image(path, format="RGB")

    def read_map(self, path: str) -> np.ndarray:
        return utils.read_image(path, format="RGB")

    def augment(self, image: np.ndarray, rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inputs = T.AugInput(image, sem_seg=rgb)
        self.augmentations(inputs)
        return inputs.image, inputs.sem_seg

    def number_segments(self, rgb: np.ndarray, segments: list[dict[str, Any]]) -> torch.Tensor:
        colors = rgb.astype(np.int32)
        ids = colors[:, :, 0] + 256 * colors[:, :, 1] + 256 * 256 * colors[:, :, 2]
        numbers = np.full(ids.shape, -1, np.int64)
        for index, segment in enumerate(segments):
            numbers[ids == segment["id"]] = index
        return torch.from_numpy(numbers)


class EmptyMapper:
    """Delivers one sample again and again."""

    def __init__(self, sample: dict[str, Any]) -> None:
        self.sample = sample

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """The sample, whatever is asked for."""
        return dict(self.sample)


def images_per_second(batches: Iterator[list], count: int) -> float:
    """By the clock, over ``count`` batches."""
    for _ in range(READY):
        next(batches)
    start = time.perf_counter()
    images = sum(len(next(batches)) for _ in range(count))
    return images / (time.perf_counter() - start)


class Stopwatch:
    """Processor time by the name of a step."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a block."""
        start = time.process_time()
        yield
        self.seconds[name] += time.process_time() - start

    def timed(self, name: str, function: Callable) -> Callable:
        """``function`` with its time taken."""

        @functools.wraps(function)
        def wrapper(*args: Any, **options: Any) -> Any:
            with self.step(name):
                return function(*args, **options)

        return wrapper

    def per_image(self, images: int, total: str) -> dict[str, float]:
        """Milliseconds a step, in the order of first use; what no step took is "tensors"."""
        steps = {name: 1000 * s / images for name, s in self.seconds.items() if name != total}
        whole = 1000 * self.seconds[total] / images
        return {**steps, "tensors": whole - sum(steps.values()), "total": whole}


def profile_mapper(mapper: PanopticMapper, dicts: list[dict[str, Any]]) -> dict[str, float]:
    """Milliseconds of processor time an image of every step, transport included."""
    watch = Stopwatch()
    names = {
        "read_image": "decode image",
        "read_id_map": "decode map",
        "number_segments": "number segments",
    }
    functions = {name: watch.timed(s, getattr(panoptic_mapper, name)) for name, s in names.items()}
    augment = watch.timed("augment", mapper.augmentations)
    with (
        mock.patch.multiple(panoptic_mapper, **functions),
        mock.patch.object(mapper, "augmentations", augment),
    ):
        for entry in dicts:
            with watch.step("map"):
                mapped = mapper(entry)
            with watch.step("pack and unpack"):
                unpack(pack([mapped]))
    transport = 1000 * watch.seconds.pop("pack and unpack") / len(dicts)
    return {**watch.per_image(len(dicts), "map"), "pack and unpack (besides)": transport}


def profile_peer(dicts: list[dict[str, Any]]) -> dict[str, float]:
    """The same of the peer."""
    mapper, watch = PeerMapper(), Stopwatch()
    names = {
        "read_image": "decode image",
        "read_map": "decode map",
        "augment": "augment",
        "number_segments": "number segments",
    }
    for name, step in names.items():
        setattr(mapper, name, watch.timed(step, getattr(mapper, name)))
    for entry in dicts:
        with watch.step("map"):
            mapper(entry)
    return watch.per_image(len(dicts), "map")


def main() -> None:
    """Make files, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=8, help="files to make (%(default)s)")
    parser.add_argument(
        "--format", choices=("png", "jpg"), default="png", help="of images (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns (%(default)s)")
    parser.add_argument("--batches", type=int, default=12, help="per turn (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes (%(default)s)")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        dicts = make_files(Path(folder), args.images, args.seed, args.format)
        DatasetCatalog.register(NAME, lambda: dicts)
        MetadataCatalog.get(NAME).evaluator_type = "panoptic"
        measure(args, dicts)


def measure(args: argparse.Namespace, dicts: list[dict[str, Any]]) -> None:
    """All figures of the tables."""
    options = {
        "INPUT.RESIZE": "scale_jitter",
        "INPUT.SCALE_JITTER": JITTER,
        "INPUT.IMAGE_SIZE": SIZE,
        "INPUT.RANDOM_FLIP": "horizontal",
        "DATASETS.TRAIN": (NAME,),
        "SOLVER.IMS_PER_BATCH": BATCH,
        "DATALOADER.NUM_WORKERS": args.workers,
        "MODEL.META_ARCHITECTURE": "any",
    }
    cfg = get_cfg(None, list(itertools.chain.from_iterable(options.items())))
    mapper = PanopticMapper(cfg, True)
    sample = mapper(dicts[0])
    loaders = {
        "slotseg": iter(build_train_loader(cfg)),
        "Detectron2": iter(
            build_detection_train_loader(
                dicts,
                mapper=PeerMapper(),
                total_batch_size=BATCH,
                aspect_ratio_grouping=False,
                num_workers=args.workers,
            )
        ),
        "two views": iter(build_train_loader(cfg, mapper=TwoViewMapper.from_config(cfg))),
        "empty": iter(build_train_loader(cfg, mapper=EmptyMapper(sample))),
    }
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    for _ in tqdm(range(args.rounds), desc="loading", unit=" rounds", disable=None):
        for name, batches in loaders.items():
            rates[name].append(images_per_second(batches, args.batches))
    median = {name: statistics.median(values) for name, values in rates.items()}
    ratio = statistics.median(
        a / b for a, b in zip(rates["slotseg"], rates["Detectron2"], strict=True)
    )
    bytes_of = {
        key: np.mean([Path(entry[key]).stat().st_size for entry in dicts]) / 1e6
        for key in ("file_name", "pan_seg_file_name")
    }
    profiles = {"slotseg": profile_mapper(mapper, dicts * 2), "Detectron2": profile_peer(dicts * 2)}

    print(f"\nfiles {FILE_SIZE[0]}x{FILE_SIZE[1]}: image {bytes_of['file_name']:.2f} MB, ", end="")
    print(f"map {bytes_of['pan_seg_file_name']:.2f} MB; delivered {SIZE[0]}x{SIZE[1]}")
    print(f"\n{f'images/s, {args.workers} workers':28}{'median':>10}{'all turns':>24}")
    for name, values in rates.items():
        turns = " ".join(f"{value:.1f}" for value in values)
        print(f"{name:28}{median[name]:10.1f}{turns:>24}")
    print(f"{'ratio, turn by turn':28}{ratio:10.2f}")
    print(f"\n{'ms of a processor per image':28}{'slotseg':>10}{'Detectron2':>12}")
    for step in [*profiles["slotseg"]]:
        told = [f"{p[step]:.1f}" if step in p else "" for p in profiles.values()]
        print(f"{step:28}{told[0]:>10}{told[1]:>12}")
    print(
        json.dumps(
            {
                "format": args.format,
                "workers": args.workers,
                "images_per_second": rates,
                "ratio": ratio,
                "ms": profiles,
                "megabytes": bytes_of,
            }
        )
    )


if __name__ == "__main__":
    main()
