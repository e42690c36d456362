"""Random draws that the layout makes all the time, one number of the generator each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def chance(rng: np.random.Generator, probability: float) -> bool:
    """True with this probability."""
    return bool(rng.random() < probability)


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number between two bounds; ``high`` may be the smaller one."""
    return float(low + (high - low) * rng.random())


def weighted(rng: np.random.Generator, weights: Sequence[float]) -> int:
    """An index into ``weights``, each with its share of their sum."""
    total = np.cumsum(weights)
    return int(np.searchsorted(total, rng.random() * total[-1], side="right"))
