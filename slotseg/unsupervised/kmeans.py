"""k-means of scipy, the best of several starts, and the nearest centre in bounded memory."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor
from tqdm import tqdm

from slotseg.errors import ConfigError

_CHUNK = 65536


def kmeans(
    points: Tensor, clusters: int, *, seed: int, restarts: int = 3, iterations: int = 50
) -> Tensor:
    """Lloyd's algorithm from k-means++ seeds (Arthur and Vassilvitskii 2007), the best of several.

    The same points and seed give the same centres.

    Args:
        points: float32 ``[N, D]`` on the CPU.
        clusters: number of centres, at least 1.
        seed: of the random choices.
        restarts: from how many sets of seeds; the one of the smallest squared error is kept.
        iterations: for each of them.

    Returns:
        float32 ``[clusters, D]``.

    Raises:
        ConfigError: fewer distinct points than clusters.
    """
    distinct = len(torch.unique(points, dim=0))
    if distinct < clusters:
        raise ConfigError(
            f"UNSUPERVISED.CLUSTERS is {clusters}, but there are only {distinct} different parts "
            "to cluster; lower it, or raise UNSUPERVISED.IMAGES"
        )
    generator = np.random.default_rng(seed)
    values = points.double().numpy()
    best, best_error = None, torch.inf
    for _ in tqdm(range(restarts), desc="k-means", unit="start", leave=False, disable=None):
        with warnings.catch_warnings():
            # A centre that loses all its points stays where it was, which does no harm.
            warnings.filterwarnings("ignore", "One of the clusters is empty")
            found, _ = kmeans2(values, clusters, iter=iterations, minit="++", seed=generator)
        centers = torch.from_numpy(found).float()
        error = float(nearest_center(points, centers)[1].double().sum())
        if best is None or error < best_error:
            best, best_error = centers, error
    return best


def nearest_center(points: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest centre of every point, and the squared distance to it.

    Args:
        points: ``[N, D]``.
        centers: ``[K, D]``.

    Returns:
        int64 ``[N]`` and float32 ``[N]``; of equally near centres the first.
    """
    half_norms = centers.square().sum(1) / 2
    chosen, distances = [], []
    for chunk in points.split(_CHUNK):
        score, index = (chunk @ centers.T - half_norms).max(1)
        chosen.append(index)
        distances.append((chunk.square().sum(1) - 2 * score).clamp_min(0))
    if not chosen:
        return torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    return torch.cat(chosen), torch.cat(distances)
