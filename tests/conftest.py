"""What all tests share: the order of imports, few threads, fixed seeds, places."""

from __future__ import annotations

import json
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import slotseg  # noqa: F401, I001  before anything can import detectron2

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

from slotseg.data.datasets.cityscapes import CATEGORIES
from slotseg.data.scene_folder import SceneWriter
from slotseg.panoptic_png import write_id_map

torch.set_num_threads(1)

# The same examples on every run, and no deadline: the first call of an operator is slow.
settings.register_profile("slotseg", deadline=None, derandomize=True)
settings.load_profile("slotseg")

PROJECT_ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _fixed_seeds() -> None:
    """Global generators start every test in the same state, in whatever order tests run."""
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The folder with setup.py, configs and tools."""
    return PROJECT_ROOT


@pytest.fixture(scope="session")
def samples_dir() -> Path:
    """Real images outside the repository: $SLOTSEG_SAMPLES, or ../shared/samples; else skip."""
    folder = Path(os.environ.get("SLOTSEG_SAMPLES", PROJECT_ROOT.parent / "shared" / "samples"))
    if not folder.is_dir():
        pytest.skip("no real samples here (set SLOTSEG_SAMPLES)")
    return folder


@pytest.fixture(scope="session")
def scene_folder_factory() -> Callable[..., Path]:
    """Write small scenes with exact masks: ``factory(folder, num_scenes=8, size=(32, 32), ...)``.

    Under ``<DETECTRON2_DATASETS>/clevr_generated/{train,tune,val}`` they are found by name.
    """
    return _write_scene_folder


@pytest.fixture(scope="session")
def street_folder_factory() -> Callable[..., Path]:
    """Write tiny streets as Cityscapes panoptic: ``factory(root, "val", num_images=4, ...)``.

    With DETECTRON2_DATASETS = root they are the sets ``cityscapes_generated_{train,tune,val}``.
    """
    return _write_street_folder


def _write_street_folder(
    root: Path, split: str, num_images: int = 4, size: tuple[int, int] = (32, 64), seed: int = 0
) -> Path:
    """Sky above road, with a car, a person and a crowd of bicycles on it, and a void frame."""
    generator = np.random.default_rng([seed, num_images, *map(ord, split)])
    folder = root / "streets_generated" / "cityscapes"
    height, width = size
    images, annotations = [], []
    for index in range(num_images):
        name = f"tiny_{index:06d}_000000"
        ids = np.full(size, 7, np.int32)
        ids[: height // 2] = 23
        left = int(generator.integers(2, width // 4))
        ids[height // 3 : height // 2 + 4, left : left + width // 4] = 26001
        ids[height // 3 : height // 2 + 6, width // 2 : width // 2 + 6] = 24000
        ids[height // 2 : height // 2 + 4, -14:-2] = 33
        ids[0] = ids[:, 0] = 0
        noise = generator.integers(0, 40, (*size, 3))
        shades = {7: 90, 23: 200, 26001: 20, 24000: 140, 33: 60, 0: 0}
        image = (sum((ids == i) * shade for i, shade in shades.items())[:, :, None] + noise).clip(
            0, 255
        )
        place = folder / "leftImg8bit" / split / "tiny" / f"{name}_leftImg8bit.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.astype(np.uint8)).save(place)
        png = f"{name}_gtFine_panoptic.png"
        write_id_map(str(folder / "gtFine" / f"cityscapes_panoptic_{split}" / png), ids)
        images.append({"id": name, "file_name": png, "height": height, "width": width})
        segments = [
            {
                "id": number,
                "category_id": number if number < 1000 else number // 1000,
                "iscrowd": int(number == 33),
                "area": int((ids == number).sum()),
                "bbox": [0, 0, width, height],
            }
            for number in sorted(shades)
            if number
        ]
        annotations.append({"image_id": name, "file_name": png, "segments_info": segments})
    categories = [
        {"id": c.id, "name": c.name, "isthing": int(c.is_thing), "color": list(c.color)}
        for c in CATEGORIES
    ]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "gtFine" / f"cityscapes_panoptic_{split}.json").write_text(json.dumps(content))
    return folder


def _write_scene_folder(
    folder: Path,
    num_scenes: int = 8,
    size: tuple[int, int] = (32, 32),
    objects: tuple[int, int] = (1, 4),
    seed: int = 0,
    with_masks: bool = True,
) -> Path:
    """Coloured discs and squares on grey, between ``objects[0]`` and ``objects[1]`` a scene."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    writer = SceneWriter(str(folder), size, {"generator": "discs and squares", "seed": seed})
    for index in range(num_scenes):
        image = np.full((*size, 3), 110, np.uint8)
        mask = np.zeros(size, np.uint8)
        listed = []
        for number in range(1, generator.integers(objects[0], objects[1] + 1) + 1):
            radius = generator.uniform(0.12, 0.25) * min(size)
            y, x = generator.uniform(radius, np.array(size) - radius)
            disc = bool(generator.integers(2))
            inside = (
                np.hypot(rows - y, columns - x) < radius
                if disc
                else np.maximum(abs(rows - y), abs(columns - x)) < radius
            )
            image[inside] = generator.integers(0, 256, 3)
            mask[inside] = number
            listed.append({"shape": "disc" if disc else "square", "pixel_coords": [x, y, 0.0]})
        for number, entry in enumerate(listed, start=1):
            entry["visible_pixels"] = int((mask == number).sum())
        writer.write(index, image, mask if with_masks else None, listed)
    writer.finish(num_scenes)
    return folder
