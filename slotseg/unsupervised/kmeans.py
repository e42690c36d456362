"""k-means that gives the same centres for the same points and seed, in bounded memory."""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm import tqdm

from slotseg.errors import ConfigError

_CHUNK = 65536


def kmeans(
    points: Tensor, clusters: int, *, seed: int, restarts: int = 3, iterations: int = 100
) -> Tensor:
    """Lloyd's algorithm from k-means++ seeds (Arthur and Vassilvitskii 2007), the best of several.

    A centre that loses all its points moves to the point that is worst explained. Means are taken
    in float64, so that their value does not depend on how the points are cut into chunks.

    Args:
        points: float32 ``[N, D]`` on the CPU.
        clusters: number of centres, at least 1.
        seed: of the random choices.
        restarts: from how many sets of seeds; the one of the smallest squared error is kept.
        iterations: at most, for each of them; it stops earlier when no point changes its centre.

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
    generator = torch.Generator().manual_seed(seed)
    best, best_error = None, torch.inf
    for _ in tqdm(range(restarts), desc="k-means", unit="start", leave=False, disable=None):
        centers = _spread_seeds(points, clusters, generator)
        centers, error = _lloyd(points, centers, iterations)
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


def _spread_seeds(points: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """Points drawn one after the other, each by its squared distance to those before it."""
    first = int(torch.randint(len(points), (1,), generator=generator))
    seeds = points[first : first + 1]
    distances = (points - seeds).square().sum(1)
    while len(seeds) < clusters:
        # torch.multinomial takes at most 2**24 values, and single precision would round sums.
        total = distances.double().cumsum(0)
        draw = torch.rand((), generator=generator, dtype=torch.float64) * total[-1]
        index = int(torch.searchsorted(total, draw, right=True).clamp(max=len(points) - 1))
        if distances[index] == 0:
            # Rounding at the upper end.
            index = int(distances.argmax())
        seeds = torch.cat([seeds, points[index : index + 1]])
        distances = torch.minimum(distances, (points - points[index]).square().sum(1))
    return seeds


def _lloyd(points: Tensor, centers: Tensor, iterations: int) -> tuple[Tensor, float]:
    before = None
    for _ in range(iterations):
        index, distances = nearest_center(points, centers)
        if before is not None and torch.equal(index, before):
            break
        before = index
        centers = _means(points, index, distances, len(centers))
    _, distances = nearest_center(points, centers)
    return centers, float(distances.double().sum())


def _means(points: Tensor, index: Tensor, distances: Tensor, clusters: int) -> Tensor:
    counts = torch.bincount(index, minlength=clusters)
    sums = torch.zeros(clusters, points.shape[1], dtype=torch.float64)
    sums.index_add_(0, index, points.double())
    centers = (sums / counts.clamp_min(1)[:, None]).float()
    empty = (counts == 0).nonzero().flatten()
    if len(empty):
        worst = distances.argsort(descending=True, stable=True)[: len(empty)]
        centers[empty] = points[worst]
    return centers
