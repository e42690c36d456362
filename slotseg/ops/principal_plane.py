"""Points of many dimensions seen on the plane in which they spread most."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def principal_plane(points: Tensor) -> tuple[Tensor, float]:
    """Principal component analysis to two dimensions.

    Args:
        points: ``[M, D]`` of any M and D from 1 on; computed in float64.

    Returns:
        ``[M, 2]`` float64, with mean 0, most of the spread along the first axis, and on each axis
        the point farthest out on the positive side, so that the picture does not flip from one
        call to the next; and the share of the variance that the plane shows, in [0, 1] (1 for
        equal points).
    """
    centered = points.double() - points.double().mean(dim=0)
    left, spread, _ = torch.linalg.svd(centered, full_matrices=False)
    plane = torch.zeros(len(points), 2, dtype=torch.float64, device=points.device)
    axes = left[:, :2] * spread[:2]
    plane[:, : axes.shape[1]] = axes
    farthest = plane.gather(0, plane.abs().argmax(dim=0, keepdim=True))
    plane = torch.where(farthest < 0, -plane, plane)
    variance = spread.square()
    total = float(variance.sum())
    return plane, float(variance[:2].sum()) / total if total > 0 else 1.0
