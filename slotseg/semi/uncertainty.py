"""How unsure a teacher is of every pixel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from slotseg.errors import ConfigError
from slotseg.ops.competition import bilinear
from slotseg.ops.pairing import pair_by_overlap
from slotseg.ops.uncertainty import normalized_entropy, prediction_variance

MEASURES = ("none", "entropy", "view_variance")


class PixelUncertainty:
    """A teacher's predictions, and its uncertainty of each pixel in 0..1.

    Measured on ``pixel_probs``, which models return where an input's ``want_pixel_probs`` is true:

    * "entropy": their entropy over the logarithm of their number;
    * "view_variance": their variance between the image and its mirror image, summed over classes,
      at most 1/2 (where slots start at random, between two such starts as well). Where they tell
      slots rather than classes, the slots of both are paired by the overlap of their masks first.

    Args:
        measure: one of these, or "none".
        of_slots: the models have no classes.

    Raises:
        ConfigError: ``measure`` is something else.
    """

    def __init__(self, measure: str, of_slots: bool = False) -> None:
        if measure not in MEASURES:
            raise ConfigError(
                f"PSEUDO_LABELS.UNCERTAINTY: {measure!r} is unknown; {', '.join(MEASURES)}"
            )
        self.measure = measure
        self.of_slots = of_slots

    def predict(
        self, teacher: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], inputs: list[dict]
    ) -> tuple[list[dict[str, Any]], list[Tensor | None]]:
        """What the teacher says of images, and per image the uncertainty ``[height, width]``.

        Args:
            teacher: a model in evaluation mode.
            inputs: dicts with ``image``, ``height`` and ``width``.

        Raises:
            ConfigError: the model cannot say how probable its classes are.
        """
        # Always: stock models tell with them how sure they are of stuff, too.
        inputs = [{**item, "want_pixel_probs": True} for item in inputs]
        outputs = teacher(inputs)
        if self.measure == "none":
            return outputs, [None] * len(inputs)
        probs = [_pixel_probs(output, teacher) for output in outputs]
        if self.measure == "entropy":
            uncertain = [normalized_entropy(p, dim=0) for p in probs]
        else:
            mirrored = teacher([{**item, "image": item["image"].flip(-1)} for item in inputs])
            uncertain = [
                self._variance(p, _pixel_probs(other, teacher).flip(-1))
                for p, other in zip(probs, mirrored, strict=True)
            ]
        return outputs, [
            bilinear(u.unsqueeze(0), (item["height"], item["width"]))[0]
            for u, item in zip(uncertain, inputs, strict=True)
        ]

    def _variance(self, first: Tensor, second: Tensor) -> Tensor:
        """``[h, w]`` of two predictions ``[C, h, w]``."""
        if self.of_slots:
            pairs = pair_by_overlap(first.flatten(1).unsqueeze(0), second.flatten(1).unsqueeze(0))
            second = second[pairs.partner[0]]
        return prediction_variance(torch.stack([first, second]), dim=1)


def _pixel_probs(output: dict[str, Any], teacher: object) -> Tensor:
    if "pixel_probs" not in output:
        name = type(teacher).__name__ if isinstance(teacher, nn.Module) else "the model"
        raise ConfigError(
            f"PSEUDO_LABELS.UNCERTAINTY: {name} does not tell how probable the classes of its "
            "pixels are; set it to 'none', so that confidence alone decides"
        )
    return output["pixel_probs"].float()
