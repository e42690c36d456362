"""The images of a batch, for all models that take them in one size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from slotseg.errors import DatasetError


def stack_images(batched_inputs: list[dict[str, Any]]) -> Tensor:
    """The mapper's images as one batch ``[B, 3, H, W]`` uint8.

    Raises:
        DatasetError: images of different sizes.
    """
    first = batched_inputs[0]
    for x in batched_inputs[1:]:
        if x["image"].shape != first["image"].shape:
            raise DatasetError(
                f"{x.get('file_name', 'an image')}: size {tuple(x['image'].shape)} differs from "
                f"{tuple(first['image'].shape)} of {first.get('file_name', 'an image')} in the "
                "same batch; resize with INPUT.IMAGE_SIZE"
            )
    return torch.stack([x["image"] for x in batched_inputs])
