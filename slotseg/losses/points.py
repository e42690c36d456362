"""Masks compared at some points in place of every pixel.

Points are ``(x, y)`` in 0..1 of the image's width and height, so that one set of points reads maps
of any resolution: mask logits at theirs, the truth at its full one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from slotseg.errors import ConfigError
from slotseg.losses.coverage import count_segments


@dataclass(frozen=True)
class PointSampler:
    """Draws points, many of them where a prediction is unsure (PointRend, Kirillov et al. 2020,
    section 3.2, as Mask2Former, Cheng et al. 2022, section 3.3, uses it).

    Random numbers come from torch's global generator.

    Attributes:
        count: points of each set, at least 1.
        oversample: random candidates as a multiple of ``count``, at least 1.
        importance: share of the points that are the least sure candidates, 0 to 1; the others are
            random.

    Raises:
        ConfigError: a value outside its range.
    """

    count: int
    oversample: float = 3.0
    importance: float = 0.75

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"LOSSES.MASKS.POINTS is {self.count}; give 0 (every pixel) or more")
        if self.oversample < 1.0:
            raise ConfigError(
                f"LOSSES.MASKS.POINTS_OVERSAMPLE is {self.oversample}; give 1 (as many candidates "
                "as points) or more"
            )
        if not 0.0 <= self.importance <= 1.0:
            raise ConfigError(
                f"LOSSES.MASKS.POINTS_IMPORTANCE is {self.importance}; give a share between 0 and 1"
            )

    def random(self, sets: int, device: torch.device) -> Tensor:
        """Uniform points ``[sets, count, 2]``."""
        return torch.rand(sets, self.count, 2, device=device)

    @torch.no_grad()
    def unsure(
        self, sets: int, device: torch.device, certainty: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Points ``[sets, count, 2]``, ``importance`` of them where ``certainty`` is lowest.

        Args:
            sets: how many sets of points.
            device: where they are wanted.
            certainty: from points ``[sets, N, 2]`` to one number a point ``[sets, N]``; infinite
                where nothing can be learnt.
        """
        candidates = torch.rand(
            sets, max(round(self.count * self.oversample), self.count), 2, device=device
        )
        chosen = round(self.count * self.importance)
        lowest = certainty(candidates).topk(chosen, dim=1, largest=False).indices
        hard = candidates.gather(1, lowest.unsqueeze(2).expand(-1, -1, 2))
        rest = torch.rand(sets, self.count - chosen, 2, device=device)
        return torch.cat([hard, rest], dim=1)


def read_maps(maps: Tensor, points: Tensor) -> Tensor:
    """Values of maps between their pixels' centres, bilinear.

    Args:
        maps: ``[N, C, h, w]``; beyond the outermost centres their values go on.
        points: ``[N, P, 2]``.

    Returns:
        ``[N, C, P]``.
    """
    grid = (2.0 * points - 1.0).unsqueeze(1).to(maps.dtype)
    read = F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return read.squeeze(2)


def read_segments(segment_maps: Tensor, points: Tensor) -> Tensor:
    """The share of every segment at points, as :func:`read_maps` of its mask would give it.

    No mask of a segment is made: the four pixels around a point say whose they are.

    Args:
        segment_maps: ``[B, H, W]`` int64, -1 for void.
        points: ``[B, P, 2]``.

    Returns:
        ``[B, S, P]`` float32 with S = the highest index + 1; sums over S to 1 less the share of
        void.
    """
    segments, weights = _around(segment_maps, points)
    batch, count, _ = segments.shape
    shares = weights.new_zeros(batch, count_segments(segment_maps) + 1, count)
    # Void lands in row 0, which is dropped.
    shares.scatter_add_(1, (segments + 1).transpose(1, 2), weights.transpose(1, 2))
    return shares[:, 1:]


def read_one_segment(
    segment_maps: Tensor, image: Tensor, segment: Tensor, points: Tensor
) -> tuple[Tensor, Tensor]:
    """The share of one segment, and of all that is no void, each at points of its own.

    Args:
        segment_maps: ``[B, H, W]`` int64, -1 for void.
        image, segment: ``[M]`` int64, which segments.
        points: ``[M, P, 2]``.

    Returns:
        Two ``[M, P]`` float32.
    """
    found, weights = _around(segment_maps, points, image)
    own = (weights * (found == segment.view(-1, 1, 1))).sum(dim=2)
    return own, (weights * (found >= 0)).sum(dim=2)


def _around(
    segment_maps: Tensor, points: Tensor, image: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The numbers of the four pixels around each point ``[M, P, 4]`` and their bilinear weights.

    Args:
        segment_maps: ``[B, H, W]``.
        points: ``[M, P, 2]``.
        image: ``[M]``, whose map each set of points reads; None: the m-th set reads the m-th map.
    """
    batch, height, width = segment_maps.shape
    if image is None:
        image = torch.arange(batch, device=points.device)
    columns, right = _two_nearest(points[..., 0], width)
    rows, lower = _two_nearest(points[..., 1], height)
    index = rows.unsqueeze(3) * width + columns.unsqueeze(2)
    weights = lower.unsqueeze(3) * right.unsqueeze(2)
    index = index.flatten(2) + image.view(-1, 1, 1) * (height * width)
    return segment_maps.flatten()[index], weights.flatten(2)


def _two_nearest(position: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The two centres around positions in 0..1, ``[..., 2]`` int64, and their weights."""
    place = (position * size - 0.5).clamp(0.0, size - 1.0)
    first = place.floor()
    second = (first + 1.0).clamp_max(size - 1.0)
    share = place - first
    return torch.stack([first, second], dim=-1).long(), torch.stack([1.0 - share, share], dim=-1)
