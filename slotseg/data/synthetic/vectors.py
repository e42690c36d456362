"""Products of float32 vectors that are stored one coordinate a row, [3, ...]."""

from __future__ import annotations

import numpy as np


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Scalar products over the first axis; faster than a sum over so short an axis."""
    total = a[0] * b[0]
    for i in range(1, len(a)):
        total += a[i] * b[i]
    return total


def length(a: np.ndarray) -> np.ndarray:
    """Euclidean lengths over the first axis."""
    return np.sqrt(dot(a, a))


def column(vector: np.ndarray) -> np.ndarray:
    """One vector as float32 [3, 1], to meet [3, N]."""
    return np.asarray(vector, dtype=np.float32).reshape(3, 1)
