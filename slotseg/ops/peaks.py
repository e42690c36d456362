"""Peaks of score maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def highest_peaks(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The pixels that are at least as high as their eight neighbours, the best first.

    Where a map has fewer local maxima than asked for, its highest other pixels follow.

    Args:
        scores: ``[B, h, w]`` above 0.
        count: how many of each map, at most h * w.

    Returns:
        Their scores ``[B, count]``, and their indices ``[B, count]`` int64 in the flattened map.
    """
    around = F.max_pool2d(scores.unsqueeze(1), 3, stride=1, padding=1).squeeze(1)
    # In the lower half of a scale that keeps the order on either side.
    top = scores.amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(scores.dtype).tiny)
    order = torch.where(scores >= around, scores + top, scores).flatten(1)
    index = order.topk(count, dim=1).indices
    return scores.flatten(1).gather(1, index), index


def segment_centers(shares: Tensor, least_share: float) -> tuple[Tensor, Tensor]:
    """The pixel nearest to every segment's centre of mass among those that it covers.

    Args:
        shares: ``[B, S, h, w]``, the share of each pixel that each segment covers.
        least_share: a pixel is the segment's from this share on.

    Returns:
        Indices ``[B, S]`` int64 in the flattened map, and whether there is such a pixel,
        ``[B, S]`` bool.
    """
    height, width = shares.shape[-2:]
    rows = torch.arange(height, device=shares.device, dtype=shares.dtype).view(-1, 1)
    columns = torch.arange(width, device=shares.device, dtype=shares.dtype)
    area = shares.sum(dim=(2, 3)).clamp_min(1e-6)[..., None, None]
    row = (shares * rows).sum(dim=(2, 3), keepdim=True) / area
    column = (shares * columns).sum(dim=(2, 3), keepdim=True) / area
    distance = (rows - row) ** 2 + (columns - column) ** 2
    inside = shares >= least_share
    distance = distance.masked_fill(~inside, torch.inf)
    return distance.flatten(2).argmin(dim=2), inside.flatten(2).any(dim=2)
