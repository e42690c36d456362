"""What all tests share: the order of imports, few threads, fixed seeds, places."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import slotseg  # noqa: F401, I001  before anything can import detectron2

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

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
