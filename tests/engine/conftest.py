"""A run that takes a second, and the data that it needs."""

from pathlib import Path

import pytest

from slotseg.config import get_cfg
from slotseg.engine.rng import seed_all

TINY = Path(__file__).with_name("tiny.yaml")


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory, scene_folder_factory):
    root = tmp_path_factory.mktemp("datasets")
    scene_folder_factory(root / "clevr_generated" / "train", num_scenes=10, seed=0)
    scene_folder_factory(root / "clevr_generated" / "val", num_scenes=5, seed=2)
    return root


@pytest.fixture
def tiny_cfg(tiny_data, tmp_path, monkeypatch):
    """``tiny_cfg(KEY, VALUE, ...)``: the tiny run, with its folder under tmp_path."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tiny_data))

    def make(*overrides, output="run"):
        seed_all(0)
        return get_cfg(str(TINY), ["OUTPUT_DIR", str(tmp_path / output), *overrides])

    return make
