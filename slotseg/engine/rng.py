"""Random number generators of Python, NumPy and torch: seed, save, restore, fork."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators (torch on every device)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def get_rng_state() -> dict[str, Any]:
    """State of all generators of this process, of plain types that a safe load accepts."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": [version, torch.tensor(words, dtype=torch.int64), gauss],
        "numpy": [
            str(name),
            torch.from_numpy(keys.astype(np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if _uses_cuda() else None,
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Put all generators back to what :func:`get_rng_state` returned."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


@contextmanager
def forked_rng(seed: int) -> Iterator[None]:
    """Seed all generators inside the block; outside it is as if the block had drawn nothing."""
    state = get_rng_state()
    try:
        seed_all(seed)
        yield
    finally:
        set_rng_state(state)


def _uses_cuda() -> bool:
    # Asking an unused CUDA for its state would initialise it, memory and all.
    return torch.cuda.is_available() and torch.cuda.is_initialized()
