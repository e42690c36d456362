"""Which masks of two sets mean the same."""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from slotseg.errors import NonFiniteLossError


class Pairs(NamedTuple):
    """For every mask of the first set its partner in the second.

    Attributes:
        partner: ``[B, K]`` int64, -1 for masks that are left over.
        overlap: ``[B, K]`` float32 in 0..1, how alike the two are; 0 where there is none.
    """

    partner: Tensor
    overlap: Tensor


@torch.no_grad()
def pair_by_overlap(masks: Tensor, others: Tensor) -> Pairs:
    """One-to-one pairs with the largest sum of overlaps (Kuhn 1955), image by image.

    The overlap of soft masks a and b is ``ab / (aa + bb - ab)`` (Tanimoto's coefficient, the
    intersection over union of hard ones): other than with sums of a and b in its place, a mask's
    overlap with itself is 1 however soft it is, so a set is paired with itself in order.

    Args:
        masks: ``[B, K, P]`` in 0..1 at P pixels.
        others: ``[B, M, P]``, at the same pixels; M may differ from K.

    Raises:
        NonFiniteLossError: NaN or infinite masks.
    """
    overlap = _overlaps(masks.float(), others.float())
    if not torch.isfinite(overlap).all():
        raise NonFiniteLossError(
            "masks that are to be paired are not finite; lower SOLVER.BASE_LR or switch "
            "SOLVER.AMP.ENABLED off"
        )
    partner = torch.full(overlap.shape[:2], -1, dtype=torch.int64)
    for image, table in enumerate(overlap.cpu().numpy()):
        rows, columns = linear_sum_assignment(table, maximize=True)
        partner[image, torch.as_tensor(rows)] = torch.as_tensor(columns)
    partner = partner.to(masks.device)
    of_pairs = overlap.gather(2, partner.clamp_min(0).unsqueeze(2)).squeeze(2)
    return Pairs(partner, of_pairs * (partner >= 0))


def _overlaps(masks: Tensor, others: Tensor) -> Tensor:
    """``[B, K, M]``."""
    both = masks @ others.transpose(1, 2)
    first = masks.square().sum(dim=2).unsqueeze(2)
    second = others.square().sum(dim=2).unsqueeze(1)
    return both / (first + second - both).clamp_min(1e-12)
