"""Maps of numbers at another size."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def resize_ids(ids: Tensor, size: tuple[int, int]) -> Tensor:
    """Segment ids ``[H, W]`` of any integer type at ``size`` (height, width), by nearest neighbour.

    Ids up to 2^53 stay exact; a map that has the size already is returned as it is.
    """
    if tuple(ids.shape) == tuple(size):
        return ids
    # float64 holds these ids exactly; "nearest-exact" takes the pixel at the centre.
    resized = F.interpolate(ids[None, None].double(), tuple(size), mode="nearest-exact")
    return resized[0, 0].to(ids.dtype)
