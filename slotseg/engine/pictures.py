"""What a model draws, as arrays: reconstructions, samples, segments of both levels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data import Metadata
from PIL import Image

from slotseg.evaluation import attention_segments, masks_of
from slotseg.visualization.examples import fitted
from slotseg.visualization.overlays import draw_segment_map
from slotseg.visualization.palette import segment_colors
from slotseg.visualization.panoptic_examples import Segments, draw_panoptic_map

# Pictures in a model's output, ``[C, H, W]`` in 0..255, and what they are called.
_DRAWN = {"masked_image": "masked image", "reconstruction": "reconstruction"}


def to_rgb(pixels: torch.Tensor, image_format: str) -> np.ndarray:
    """``[C, H, W]`` in 0..255 and ``INPUT.FORMAT`` order to uint8 RGB ``[H, W, 3]``."""
    array = pixels.float().round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
    if image_format == "L":
        return array.repeat(3, axis=2)
    return np.ascontiguousarray(reordered(array, image_format, "RGB"))


def reordered(image: np.ndarray, source: str, target: str) -> np.ndarray:
    """An RGB or BGR image ``[H, W, 3]`` in another order, or as one grey channel for "L"."""
    if target == "L":
        rgb = image if source == "RGB" else image[:, :, ::-1]
        return np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).convert("L"))[:, :, None]
    return image if source == target else image[:, :, ::-1]


def drawn_pictures(output: Mapping[str, Any], image_format: str) -> dict[str, np.ndarray]:
    """The pictures in a model's output by what they are, uint8 RGB ``[H, W, 3]``.

    Those of :func:`reconstructions` have the size of the model's input; the segments of the parents
    of a two-level grouping, called "parents", have that of the output.
    """
    pictures = reconstructions(output, image_format)
    parents = masks_of(output, "parents")
    if parents is not None:
        segments = attention_segments(parents, tuple(output["panoptic_seg"][0].shape))
        pictures["parents"] = draw_segment_map(
            segments.cpu().numpy() - 1, segment_colors(len(parents))
        )
    return pictures


def reconstructions(output: Mapping[str, Any], image_format: str) -> dict[str, np.ndarray]:
    """The images that decoders drew, and what they were given of one, by what they are."""
    return {
        label: to_rgb(output[name], image_format)
        for name, label in _DRAWN.items()
        if output.get(name) is not None
    }


def picture_row(
    item: Mapping[str, Any],
    output: Mapping[str, Any],
    image_format: str,
    metadata: Metadata | None = None,
) -> dict[str, np.ndarray]:
    """An image, its segments if there are any, and what the model draws, all of one size.

    Args:
        item: the mapper's dict.
        output: the model's dict.
        image_format: of both.
        metadata: of the classes; None where segments have none.

    Returns:
        uint8 RGB ``[H, W, 3]`` by what they are, in the size of the item's image.
    """
    row = {"image": to_rgb(item["image"], image_format)}
    if "panoptic_seg" in output:
        segments, info = output["panoptic_seg"]
        flat = _flat_colors(segments.cpu().numpy(), info, metadata)
        row["segments"] = cv2.resize(
            flat, row["image"].shape[1::-1], interpolation=cv2.INTER_NEAREST
        )
    drawn = drawn_pictures(output, image_format)
    return row | {label: fitted(picture, row["image"]) for label, picture in drawn.items()}


def _flat_colors(
    segments: np.ndarray, info: list[dict[str, Any]], metadata: Metadata | None
) -> np.ndarray:
    if metadata is not None and not any("slot" in segment for segment in info):
        return draw_panoptic_map(Segments(segments, info), metadata)
    return draw_segment_map(segments - 1, segment_colors(max(int(segments.max()), 1)))
