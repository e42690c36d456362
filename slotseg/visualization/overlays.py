"""Pictures of segments and slots, all uint8 RGB arrays ``[H, W, 3]``.

Small images are enlarged by a whole factor before anything is drawn, so that outlines, labels
and single pixels stay readable at 128x128.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.utils.visualizer import Visualizer
from scipy.optimize import linear_sum_assignment

from slotseg.evaluation.clustering import contingency_table, pairwise_iou
from slotseg.visualization.palette import BACKGROUND, VOID, instance_shade, segment_colors

# Side in pixels below which pictures are enlarged.
MIN_SIDE = 512


class _SteadyVisualizer(Visualizer):
    """Detectron2's Visualizer with the colours of its metadata as they are.

    The stock class shifts every colour at random, so the same segment would change its colour
    from picture to picture.
    """

    def _jitter(self, color: Sequence[float]) -> tuple[float, ...]:
        return tuple(float(channel) for channel in color)


class _ShadingVisualizer(_SteadyVisualizer):
    """The same with a shade of the class's colour for every thing, one after the other."""

    def __init__(self, image: np.ndarray, metadata: Metadata) -> None:
        super().__init__(image, metadata)
        self._drawn = 0

    def _jitter(self, color: Sequence[float]) -> tuple[float, ...]:
        shade = instance_shade(np.asarray(color) * 255, self._drawn)
        self._drawn += 1
        return tuple(float(channel) / 255 for channel in shade)


def enlargement(size: tuple[int, int], min_side: int = MIN_SIDE) -> int:
    """Whole factor that brings the shorter side of ``(height, width)`` to ``min_side`` pixels."""
    return max(1, math.ceil(min_side / min(size)))


def enlarge(image: np.ndarray, factor: int, smooth: bool = False) -> np.ndarray:
    """Repeat pixels ``factor`` times along both sides, or interpolate between them (Lanczos)."""
    if factor == 1:
        return image
    size = (image.shape[1] * factor, image.shape[0] * factor)
    method = cv2.INTER_LANCZOS4 if smooth else cv2.INTER_NEAREST
    return cv2.resize(image, size, interpolation=method)


def to_tile(image: np.ndarray, side: int) -> np.ndarray:
    """The image for a sheet of many: enlarged by a whole factor until its shorter side has
    ``side`` pixels, or shrunk by one as long as it keeps them.
    """
    shrink = min(image.shape[:2]) // side
    if shrink < 2:
        return enlarge(image, enlargement(image.shape[:2], side), smooth=True)
    size = (image.shape[1] // shrink, image.shape[0] // shrink)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def draw_segments(
    image: np.ndarray,
    panoptic_seg: torch.Tensor | np.ndarray,
    segments_info: Sequence[dict[str, Any]],
    *,
    metadata: Metadata | None = None,
    alpha: float = 0.45,
    min_side: int = MIN_SIDE,
) -> np.ndarray:
    """Segments over the image, drawn by Detectron2's ``Visualizer``.

    Args:
        image: uint8 ``[H, W, 3]`` RGB.
        panoptic_seg: integer ``[H, W]`` segment ids, 0 is no segment.
        segments_info: one dict a segment, as ``panoptic_seg`` has it in Detectron2.
        metadata: classes and their colours; things of one class get different shades of it.
            None colours and labels every segment by its slot (key "slot", or else its id), which
            is what class-agnostic slots need.
        alpha: opacity of the segments, 0 to 1.
        min_side: pictures with a shorter side are enlarged to it, by a whole factor.

    Returns:
        uint8 ``[H * factor, W * factor, 3]`` RGB.

    Raises:
        ValueError: image and segments of different size.
    """
    image = _as_rgb(image)
    seg = torch.as_tensor(panoptic_seg).cpu().long()
    if tuple(seg.shape) != image.shape[:2]:
        raise ValueError(f"segments {tuple(seg.shape)} do not fit the image {image.shape[:2]}")
    # A copy: the Visualizer writes areas into the dicts.
    info = [dict(segment) for segment in segments_info]
    known = torch.tensor([segment["id"] for segment in info], dtype=torch.long)
    seg = torch.where(torch.isin(seg, known), seg, 0)
    draw_with = _SteadyVisualizer if metadata is None else _ShadingVisualizer
    if metadata is None:
        metadata = _slot_metadata(info)
    factor = enlargement(image.shape[:2], min_side)
    # Enlarging first gives the polygons that are drawn the shape of the pixels.
    canvas = enlarge(image, factor, smooth=True)
    seg = seg.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    visualizer = draw_with(canvas, metadata)
    return visualizer.draw_panoptic_seg_predictions(seg, info, alpha=alpha).get_image()


def draw_segment_map(segment_map: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Flat colours: pixel value ``i`` gets ``colors[i]``, negative values (void) are black.

    Args:
        segment_map: integer ``[H, W]``.
        colors: uint8 ``[N, 3]`` RGB, N above the largest value.
    """
    table = np.concatenate([colors, [VOID]]).astype(np.uint8)
    return table[np.where(segment_map < 0, len(colors), segment_map)]


def truth_colors(count: int) -> np.ndarray:
    """Colours of true segments: grey for segment 0, the background, then distinct ones."""
    return np.concatenate([[BACKGROUND], segment_colors(max(count - 1, 0))]).astype(np.uint8)


def matched_colors(segment_map: np.ndarray, truth: np.ndarray | None, count: int) -> np.ndarray:
    """Colours for predicted segments that repeat those of the true segments they match best.

    Matching is one-to-one (Hungarian on IoU, background included), so equal colours in truth
    and prediction mean the same thing; segments without a partner get colours of their own.

    Args:
        segment_map: integer ``[H, W]``, predicted segments ``0 .. count - 1``.
        truth: integer ``[H, W]``, true segments, 0 background, negative void; None: no matching.
        count: number of predicted segments.

    Returns:
        uint8 ``[count, 3]`` RGB.
    """
    if truth is None:
        return segment_colors(count)
    num_true = max(int(truth.max()) + 1, 1)
    table = contingency_table(_batch(segment_map), _batch(np.maximum(truth, -1)), count, num_true)
    rows, columns = _match(pairwise_iou(table)[0].numpy())
    spare = segment_colors(num_true - 1 + count)[num_true - 1 :]
    colors = spare[:count]
    colors[rows] = truth_colors(num_true)[columns]
    return colors


def slot_cutouts(image: np.ndarray, masks: np.ndarray) -> list[np.ndarray]:
    """The image seen through every slot's mask, which becomes its opacity.

    Args:
        image: uint8 ``[H, W, 3]`` RGB.
        masks: float ``[K, h, w]`` in 0..1; other sizes are interpolated to the image's.

    Returns:
        K arrays uint8 ``[H, W, 4]`` RGBA.
    """
    image = _as_rgb(image)
    cutouts = []
    for mask in slot_alphas(masks, image.shape[:2]):
        alpha = (mask * 255).round().astype(np.uint8)[:, :, None]
        # Nobody sees 1 %, and black costs no bytes in a PNG.
        alpha[alpha < 3] = 0
        cutouts.append(np.concatenate([np.where(alpha > 0, image, 0), alpha], axis=2))
    return cutouts


def on_paper(cutout: np.ndarray, paper: tuple[int, int, int] = (255, 255, 255)) -> np.ndarray:
    """An RGBA picture ``[H, W, 4]`` laid on plain paper, RGB ``[H, W, 3]``."""
    alpha = cutout[:, :, 3:].astype(np.float32) / 255
    blend = alpha * cutout[:, :, :3] + (1 - alpha) * np.asarray(paper, np.float32)
    return blend.round().astype(np.uint8)


def slot_alphas(masks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Masks ``[K, h, w]`` interpolated to ``size`` and clipped to 0..1, float32."""
    masks = np.asarray(masks, np.float32)
    if masks.ndim != 3:
        raise ValueError(f"masks must be [K, h, w], got {list(masks.shape)}")
    if masks.shape[1:] != tuple(size):
        height, width = size
        masks = np.stack(
            [cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR) for mask in masks]
        )
    return masks.clip(0, 1)


def frame(image: np.ndarray, color: Sequence[int], thickness: int) -> np.ndarray:
    """A copy of the image with a coloured border inside its edges."""
    framed = image.copy()
    for edge in (
        np.s_[:thickness],
        np.s_[-thickness:],
        np.s_[:, :thickness],
        np.s_[:, -thickness:],
    ):
        framed[edge] = color
    return framed


def tile(
    images: Sequence[np.ndarray],
    columns: int,
    *,
    gap: int = 8,
    paper: tuple[int, int, int] = (255, 255, 255),
) -> np.ndarray:
    """Arrange pictures of one size in rows of ``columns``, with ``gap`` pixels between them."""
    if not images:
        raise ValueError("there is no picture to arrange")
    height, width = images[0].shape[:2]
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    sheet = np.empty((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), np.uint8)
    sheet[:] = paper
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def draw_slot_sheet(
    image: np.ndarray, masks: np.ndarray, *, columns: int = 6, side: int = 256
) -> np.ndarray:
    """All slots of one image on a sheet; every tile has its slot's colour as a frame.

    The colours are those of :func:`draw_segments` without metadata; ``side`` is the shorter side of
    a tile in pixels, up to twice as long.
    """
    seen = to_tile(_as_rgb(image), side)
    pictures = [on_paper(cutout) for cutout in slot_cutouts(seen, masks)]
    thickness = max(2, min(seen.shape[:2]) // 64)
    colors = segment_colors(len(pictures))
    framed = [frame(p, c, thickness) for p, c in zip(pictures, colors, strict=True)]
    return tile(framed, columns)


def _slot_metadata(info: list[dict[str, Any]]) -> Metadata:
    """Give every segment a class of its own, named and coloured by its slot; edits ``info``."""
    slots = [int(segment.get("slot", segment["id"] - 1)) for segment in info]
    count = max(slots, default=-1) + 1
    for segment, slot in zip(info, slots, strict=True):
        segment.update(category_id=slot, isthing=True)
    metadata = Metadata()
    metadata.thing_classes = [f"slot {slot}" for slot in range(count)]
    metadata.thing_colors = segment_colors(count).tolist()
    return metadata


def _match(iou: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One-to-one pairs of rows and columns with the largest sum of IoU, without empty pairs."""
    rows, columns = linear_sum_assignment(iou, maximize=True)
    touching = iou[rows, columns] > 0
    return rows[touching], columns[touching]


def _batch(segment_map: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(np.asarray(segment_map, np.int64))[None]


def _as_rgb(image: np.ndarray) -> np.ndarray:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"an image must be uint8 [H, W, 3], got {image.dtype} {image.shape}")
    return np.ascontiguousarray(image)
