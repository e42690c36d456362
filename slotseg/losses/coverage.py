"""True segments as shares of coarse pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from slotseg.losses.step import Prediction


def coverage_of(segment_maps: Tensor, prediction: Prediction) -> Tensor:
    """The truth ``[B, S, h, w]`` of a prediction's mask logits, see :func:`coverage`."""
    lattice = prediction.lattice
    if lattice is None:
        return coverage(segment_maps, prediction.mask_logits.shape[-2:])
    if lattice.size != segment_maps.shape[-2:]:
        return lattice.take(coverage(segment_maps, lattice.size))
    # Each pixel of the masks is one of the map: no need to look at the others.
    taken = lattice.take(segment_maps)
    shares = coverage(taken, taken.shape[-2:])
    return F.pad(shares, (0, 0, 0, 0, 0, count_segments(segment_maps) - shares.shape[1]))


def coverage(segment_maps: Tensor, size: tuple[int, int]) -> Tensor:
    """The share of every coarse pixel that each segment covers.

    Args:
        segment_maps: ``[B, H, W]`` int64, -1 for void.
        size: (h, w) to average to; each pixel counts in one coarse pixel. A map larger than
            (H, W), as decoders can make of images of a few pixels, has void between them.

    Returns:
        ``[B, S, h, w]`` float32 with S = the highest index + 1; sums over S to 1 less the share
        of void.
    """
    batch, height, width = segment_maps.shape
    num_segments = count_segments(segment_maps)
    # Count pixels by (image, segment, coarse pixel) instead of averaging one-hot maps, which
    # would hold S full-size images.
    cells = size[0] * size[1]
    row = torch.arange(height, device=segment_maps.device) * size[0] // height
    column = torch.arange(width, device=segment_maps.device) * size[1] // width
    cell = (row.view(-1, 1) * size[1] + column).expand(batch, -1, -1)
    image = torch.arange(batch, device=segment_maps.device).view(-1, 1, 1)
    index = (image * num_segments + segment_maps) * cells + cell
    counts = torch.bincount(index[segment_maps >= 0], minlength=batch * num_segments * cells)
    area = torch.bincount(cell[0].flatten(), minlength=cells)
    return counts.view(batch, num_segments, *size) / area.clamp_min(1).view(size)


def shares_of_classes(
    shares: Tensor, categories: Tensor, num_classes: int, confidence: Tensor | None = None
) -> Tensor:
    """The share of every pixel that is of each class; void is none.

    Args:
        shares: ``[B, S, h, w]``, of segments, see :func:`coverage`.
        categories: ``[B, S']`` int64, the contiguous class of every segment, below C, with
            S' >= S; -1 for none.
        num_classes: C.
        confidence: ``[B, S']`` in 0..1, a factor of each segment's shares; None: 1.

    Returns:
        ``[B, C, h, w]`` float32.
    """
    # A column more, which is thrown away, for segments that are none.
    members = F.one_hot(categories[:, : shares.shape[1]] + 1, num_classes + 1)[..., 1:]
    if confidence is not None:
        members = members * confidence[:, : shares.shape[1]].unsqueeze(2)
    return torch.einsum("bshw,bsc->bchw", shares, members.to(shares.dtype))


def segment_areas(segment_maps: Tensor) -> Tensor:
    """Pixels of every segment, ``[B, S]`` int64, of maps ``[B, H, W]`` int64 with -1 for void."""
    batch, num_segments = len(segment_maps), count_segments(segment_maps)
    image = torch.arange(batch, device=segment_maps.device).view(-1, 1, 1)
    index = (image * num_segments + segment_maps)[segment_maps >= 0]
    return torch.bincount(index, minlength=batch * num_segments).view(batch, num_segments)


def count_segments(segment_maps: Tensor) -> int:
    """S, one more than the highest index in the batch; at least 1."""
    return max(int(segment_maps.max()) + 1, 1)
