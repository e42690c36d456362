"""Panoptic truth as the query models' losses take it: one mask and one class a segment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from slotseg.meta_arch.truth import PanopticTruth


def mask_targets(
    sample: Mapping[str, Any], size: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Masks and classes of an image's segments.

    Left out are crowd regions and segments without a pixel. The losses have no notion of a pixel
    that does not count: void, crowd and padding belong to no mask, so that a query which is matched
    to a segment learns to stay out of them (Mask2Former was published so).

    Args:
        sample: the mapper's dict.
        size: (height, width) in pixels of the padded image.
        device: of the results.

    Returns:
        Masks ``[S', height, width]`` float32 in {0, 1} and classes ``[S']`` int64; S' may be 0.

    Raises:
        DatasetError: the sample has no panoptic truth.
    """
    truth = PanopticTruth.of(sample, device)
    used = ((truth.areas() > 0) & ~truth.is_crowd).nonzero()[:, 0]
    height, width = truth.segment_map.shape
    masks = torch.zeros((len(used), *size), device=device)
    masks[:, :height, :width] = truth.segment_map == used[:, None, None]
    return masks, truth.category[used]
