"""Pictures of a two-level grouping: parents, and what each divides into."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from slotseg.ops.hierarchy import parent_masks
from slotseg.visualization.overlays import (
    draw_segment_map,
    frame,
    on_paper,
    slot_alphas,
    slot_cutouts,
    tile,
    to_tile,
)
from slotseg.visualization.palette import instance_shade, segment_colors

# How much of a segment's colour covers the image.
_OPACITY = 0.6
# Behind slots that win no pixel.
_UNUSED_PAPER = (225, 225, 225)


def draw_hierarchy(
    image: np.ndarray, masks: np.ndarray, parent_of: np.ndarray, *, side: int = 256
) -> np.ndarray:
    """One sheet of both levels.

    The first row shows the image, the parents' segments and the sub-slots' segments over it; then
    comes a row for every parent: what it sees, and what each of its sub-slots sees. A parent's
    mask is the sum of its sub-slots', and their colours are shades of its own. Grey paper stands
    behind those that win no pixel.

    Args:
        image: uint8 ``[H, W, 3]`` RGB.
        masks: float ``[K, h, w]`` in 0..1, one a sub-slot, summing to 1 over K.
        parent_of: integer ``[K]``, the parent of every sub-slot, 0 to M - 1.
        side: shorter side in pixels of every tile, which may be up to twice as long.

    Returns:
        uint8 ``[M + 1 rows, columns, 3]`` RGB, with as many columns as the largest parent has
        sub-slots and one more, at least 3.

    Raises:
        ValueError: not one parent for every mask.
    """
    masks, parent_of = np.asarray(masks, np.float32), np.asarray(parent_of, np.int64)
    image = to_tile(image, side)
    count = int(parent_of.max()) + 1
    upper = parent_masks(torch.from_numpy(masks), torch.from_numpy(parent_of), count).numpy()
    parent_colors, sub_colors = hierarchy_colors(parent_of)
    thickness = max(2, min(image.shape[:2]) // 64)
    parents = _tiles(image, upper, parent_colors, 2 * thickness)
    subs = _tiles(image, masks, sub_colors, thickness)
    rows = [[image, _colored(image, upper, parent_colors), _colored(image, masks, sub_colors)]]
    rows += [
        [seen, *(subs[sub] for sub in np.flatnonzero(parent_of == parent))]
        for parent, seen in enumerate(parents)
    ]
    columns = max(len(row) for row in rows)
    blank = np.full_like(image, 255)
    return tile([t for row in rows for t in row + [blank] * (columns - len(row))], columns)


def hierarchy_colors(parent_of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours of the parents and of their sub-slots, which are shades of the parent's.

    Args:
        parent_of: integer ``[K]``, 0 to M - 1.

    Returns:
        uint8 ``[M, 3]`` and uint8 ``[K, 3]`` RGB.
    """
    parents = segment_colors(int(parent_of.max()) + 1)
    subs = np.empty((len(parent_of), 3), np.uint8)
    for parent, color in enumerate(parents):
        for number, sub in enumerate(np.flatnonzero(parent_of == parent)):
            # The first shade is the parent's own colour, which stays the parent's.
            subs[sub] = instance_shade(color, number + 1).round()
    return parents, subs


def _tiles(
    image: np.ndarray, masks: np.ndarray, colors: np.ndarray, thickness: int
) -> list[np.ndarray]:
    """The image through every mask, framed in its colour."""
    used = np.isin(np.arange(len(masks)), masks.argmax(axis=0))
    papers = [(255, 255, 255) if wins else _UNUSED_PAPER for wins in used]
    return [
        frame(on_paper(cutout, paper), color, thickness)
        for cutout, paper, color in zip(slot_cutouts(image, masks), papers, colors, strict=True)
    ]


def _colored(image: np.ndarray, masks: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Every pixel tinted with the colour of its largest mask."""
    winners = slot_alphas(masks, image.shape[:2]).argmax(axis=0)
    flat = draw_segment_map(winners, colors)
    return cv2.addWeighted(flat, _OPACITY, image, 1 - _OPACITY, 0)
