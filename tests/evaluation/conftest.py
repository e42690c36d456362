"""Small panoptic sets as files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from slotseg.classes import Category, set_class_metadata
from slotseg.panoptic_png import write_id_map

# Ids and order are not those of any sorting, so that mixing up numberings shows.
CATEGORIES = [
    Category(24, "person", True, (220, 20, 60)),
    Category(7, "road", False, (128, 64, 128)),
    Category(26, "car", True, (0, 0, 142)),
    Category(23, "sky", False, (70, 130, 180)),
]


class PanopticFiles:
    """A generated set: ``gt.json``, ``gt/``, ``pred.json``, ``pred/``; and as Detectron2 dicts."""

    def __init__(self, folder: Path, images: int, seed: int = 0, things_only: bool = False):
        self.folder = folder
        self.categories = [c for c in CATEGORIES if c.is_thing or not things_only]
        self.content = {side: {"annotations": []} for side in ("gt", "pred")}
        self.content["gt"] |= {
            "images": [],
            "categories": [
                {"id": c.id, "name": c.name, "isthing": int(c.is_thing)} for c in self.categories
            ],
        }
        rng = np.random.default_rng(seed)
        for index in range(images):
            self._add_image(f"city{index % 2}/{index // 2:06d}", rng)
        self.write_json()

    def _add_image(self, image_id: str, rng: np.random.Generator) -> None:
        size = (24, 20 + len(image_id) % 3)
        truth, segments = self._random_map(rng, size)
        if rng.random() < 0.2:
            truth[:], segments = 0, {}
        pred = np.where(rng.random(size) < 0.1, 0, truth)
        pred = np.roll(pred, rng.integers(0, 2), axis=1)
        other, other_segments = self._random_map(rng, size)
        mixed = rng.random(size) < rng.choice([0.0, 0.2])
        pred = np.where(mixed, other, pred)
        guesses = (
            {
                number: category if rng.random() < 0.8 else int(rng.choice(list(segments.values())))
                for number, category in {**other_segments, **segments}.items()
            }
            if segments
            else other_segments
        )
        file_name = image_id.replace("/", "_") + ".png"
        for side, ids, found in (("gt", truth, segments), ("pred", pred, guesses)):
            write_id_map(str(self.folder / side / file_name), ids)
            infos = []
            for number, area in zip(*np.unique(ids, return_counts=True), strict=True):
                if number:
                    info = {"id": int(number), "category_id": found[int(number)]}
                    infos.append(info | {"area": int(area), "iscrowd": 0})
            entry = {"image_id": image_id, "file_name": file_name, "segments_info": infos}
            self.content[side]["annotations"].append(entry)
        # One crowd a class and image at most: with more, published code differs (see there).
        crowded = self.content["gt"]["annotations"][-1]["segments_info"]
        if crowded and rng.random() < 0.5:
            crowded[0]["iscrowd"] = 1

    def _random_map(self, rng, size):
        known = [category.id for category in self.categories]
        ids = np.zeros(size, np.int32)
        segments = {}
        for _ in range(rng.integers(2, 9)):
            number = int(rng.choice([rng.integers(1, 300), rng.integers(1, 256**3)]))
            y, x = rng.integers(0, size[0] - 4), rng.integers(0, size[1] - 4)
            ids[y : y + rng.integers(2, 14), x : x + rng.integers(2, 14)] = number
            segments[number] = int(rng.choice(known))
        return ids, segments

    def write_json(self) -> None:
        for side, content in self.content.items():
            (self.folder / f"{side}.json").write_text(json.dumps(content))

    @property
    def paths(self) -> list[str]:
        """Arguments of ``evaluate_files``."""
        return [str(self.folder / name) for name in ("gt.json", "gt", "pred.json", "pred")]

    def dicts(self, side: str) -> list[dict]:
        """Data set dicts of the truth, or the same with the prediction's file and segments."""
        numbers = {category.id: index for index, category in enumerate(self.categories)}
        return [
            {
                "image_id": entry["image_id"],
                "file_name": f"images/{entry['image_id']}.jpg",
                "pan_seg_file_name": str(self.folder / side / entry["file_name"]),
                "segments_info": [
                    {**segment, "category_id": numbers[segment["category_id"]]}
                    for segment in entry["segments_info"]
                ],
            }
            for entry in self.content[side]["annotations"]
        ]


@pytest.fixture
def panoptic_files(tmp_path):
    """``panoptic_files(images=8, seed=0, things_only=False)`` writes a set under tmp_path."""

    def make(images: int = 8, **options) -> PanopticFiles:
        folder = tmp_path / "panoptic set"
        folder.mkdir()
        return PanopticFiles(folder, images, **options)

    return make


@pytest.fixture
def registered():
    """``registered(files)`` registers a set and gives its name; it is removed after the test."""
    names = []

    def register(files: PanopticFiles) -> str:
        name = f"toy_panoptic_{len(names)}"
        DatasetCatalog.register(name, lambda: files.dicts("gt"))
        MetadataCatalog.get(name).set(
            panoptic_json=files.paths[0], panoptic_root=files.paths[1], evaluator_type="panoptic"
        )
        set_class_metadata(name, files.categories)
        names.append(name)
        return name

    yield register
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
