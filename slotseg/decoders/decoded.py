"""What a decoder returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from slotseg.ops.lattice import Lattice


@dataclass(frozen=True)
class Regression:
    """A guess and what it should be, both float32 and of one shape.

    Attributes:
        prediction: with gradients.
        target: without.
    """

    prediction: Tensor
    target: Tensor


@dataclass(frozen=True)
class Decoded:
    """The output of one decoder; None for what it does not make.

    Attributes:
        mask_logits: ``[B, K, h, w]`` float32; their softmax over K are the masks, or, with
            ``MODEL.MASK_ACTIVATION`` "sigmoid", the sigmoid of each.
        reconstruction: ``[B, 3, h, w]`` float32, the normalised image.
        features: of a backbone map, ``[B, C, h, w]``; in training.
        noise: of the noise in the latents of the image, ``[B, C, h, w]``; in training.
        lattice: in training, the pixels of the map of masks that the logits are of; None: all.
    """

    mask_logits: Tensor | None = None
    reconstruction: Tensor | None = None
    features: Regression | None = None
    noise: Regression | None = None
    lattice: Lattice | None = None
