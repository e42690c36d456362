"""How much two patches of an image belong together: the weights of a graph over patches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Keeps a thresholded graph connected (Wang et al. 2023, MaskCut).
_WEAK_EDGE = 1e-5


def cosine_affinity(features: Tensor) -> Tensor:
    """Cosine similarity with negative values clipped (Melas-Kyriazi et al. 2022, "Deep Spectral
    Methods").

    Args:
        features: ``[B, N, C]``; computed in float32 whatever the dtype. Zero vectors are similar
            to nothing.

    Returns:
        ``[B, N, N]`` float32 in [0, 1], symmetric.
    """
    return _cosine(features).clamp_min_(0.0)


def threshold_affinity(features: Tensor, threshold: float) -> Tensor:
    """1 where the cosine similarity is above ``threshold``, else 1e-5 (Wang et al. 2023, "Cut and
    Learn for Unsupervised Object Detection"); shapes as :func:`cosine_affinity`."""
    return (_cosine(features) > threshold).float().clamp_min_(_WEAK_EDGE)


def power_affinity(features: Tensor, power: float) -> Tensor:
    """The clipped cosine similarity to a ``power`` above 0, which fades all but close patches
    (Couairon et al. 2024, "DiffCut"); shapes as :func:`cosine_affinity`."""
    return cosine_affinity(features).pow_(power)


def color_affinity(colors: Tensor, grid: tuple[int, int], neighbors: int) -> Tensor:
    """Each patch joined to those nearest in colour and place, 1 for the same and 0 for opposite
    (after the nearest-neighbour matting term of Melas-Kyriazi et al. 2022).

    Place counts as much as colour: each of the five coordinates runs over about [0, 1].

    Args:
        colors: ``[B, N, 3]``, mean colours of the patches, each channel over about [0, 1].
        grid: (height, width) with height * width = N.
        neighbors: how many each patch chooses; at most all others.

    Returns:
        ``[B, N, N]`` float32 in [0, 1], symmetric, zero where neither chose the other.
    """
    height, width = grid
    rows = torch.arange(height, device=colors.device) / max(height - 1, 1)
    columns = torch.arange(width, device=colors.device) / max(width - 1, 1)
    place = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).flatten(0, 1)
    points = torch.cat([colors.float(), place.float().expand(len(colors), -1, -1)], dim=-1)
    distances = torch.cdist(points, points)
    # Every patch is nearest to itself.
    nearest, chosen = distances.topk(min(neighbors + 1, points.shape[1]), dim=-1, largest=False)
    closeness = (1.0 - nearest / points.shape[-1] ** 0.5).clamp_min(0.0)
    weights = torch.zeros_like(distances).scatter_(-1, chosen, closeness)
    return torch.maximum(weights, weights.mT)


def _cosine(features: Tensor) -> Tensor:
    with torch.autocast(features.device.type, enabled=False):
        unit = F.normalize(features.float(), dim=-1)
        return unit @ unit.mT
