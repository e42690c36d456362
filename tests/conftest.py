"""What all tests share: the order of imports, few threads, fixed seeds, places."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import slotseg  # noqa: F401, I001  before anything can import detectron2

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from slotseg.data.scene_folder import SceneWriter

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
