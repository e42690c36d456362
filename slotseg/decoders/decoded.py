"""What a decoder returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Decoded:
    """The output of one decoder; None for what it does not make.

    Attributes:
        mask_logits: ``[B, K, h, w]`` float32; their softmax over K are the masks.
        reconstruction: ``[B, 3, h, w]`` float32, the normalised image.
    """

    mask_logits: Tensor | None = None
    reconstruction: Tensor | None = None
