"""True segments of a training image, drawn so that mistakes in labels show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from detectron2.data import Metadata

from slotseg.visualization.overlays import (
    MIN_SIDE,
    draw_segments,
    enlarge,
    enlargement,
    tile,
    truth_colors,
)
from slotseg.visualization.palette import VOID

# Width in pixels of a stripe, and of the gap to the next.
_STRIPE = 4
_VOID_STRIPE = (70, 70, 70)
_CROWD_STRIPE = (255, 255, 255)
# Wider pictures than this stand above each other.
_WIDE = 1.5


def draw_truth(
    image: np.ndarray,
    segment_map: np.ndarray,
    is_thing: Sequence[bool],
    is_crowd: Sequence[bool],
    *,
    categories: Sequence[int] | None = None,
    metadata: Metadata | None = None,
    min_side: int = MIN_SIDE,
) -> np.ndarray:
    """The image, and beside it (below it where it is wide) its segments.

    Things have outlines, every segment its class name, void is black with grey stripes, and
    crowds have white stripes.

    Args:
        image: uint8 ``[H, W, 3]`` RGB.
        segment_map: integer ``[H, W]``, index into the S segments, negative void.
        is_thing: S, whether it is a thing (a crowd is one as well).
        is_crowd: S.
        categories: S, contiguous classes; None draws segment 0 as "background" and segment i as
            "object i", each in its own colour.
        metadata: classes and colours; needed with ``categories``.
        min_side: smaller pictures are enlarged by a whole factor.

    Returns:
        uint8 RGB picture.

    Raises:
        ValueError: image and map of different size, or lists of different length.
    """
    if categories is None:
        categories, metadata = range(len(is_thing)), _scene_metadata(len(is_thing))
    info = [
        {"id": s + 1, "category_id": int(c), "isthing": bool(thing), "iscrowd": int(crowd)}
        for s, (c, thing, crowd) in enumerate(zip(categories, is_thing, is_crowd, strict=True))
    ]
    factor = enlargement(image.shape[:2], min_side)
    large = enlarge(image, factor, smooth=True)
    segments = np.asarray(segment_map).repeat(factor, 0).repeat(factor, 1)
    if segments.shape != large.shape[:2]:
        raise ValueError(f"segments {segment_map.shape} do not fit the image {image.shape[:2]}")
    crowds = np.flatnonzero(is_crowd)
    canvas = _striped(large, segments < 0, _VOID_STRIPE, ground=VOID)
    canvas = _striped(canvas, np.isin(segments, crowds), _CROWD_STRIPE, rising=True)
    drawn = draw_segments(canvas, segments + 1, info, metadata=metadata, min_side=1)
    height, width = large.shape[:2]
    return tile([large, drawn], columns=1 if width > _WIDE * height else 2)


def _striped(
    image: np.ndarray,
    where: np.ndarray,
    stripe: tuple[int, int, int],
    ground: tuple[int, int, int] | None = None,
    rising: bool = False,
) -> np.ndarray:
    """A copy with diagonal stripes inside ``where``, on ``ground`` or on what is there."""
    striped = image.copy()
    if ground is not None:
        striped[where] = ground
    rows, columns = np.indices(where.shape, sparse=True)
    diagonal = (rows + columns if rising else rows - columns) // _STRIPE
    striped[where & (diagonal % 3 == 0)] = stripe
    return striped


def _scene_metadata(count: int) -> Metadata:
    """Segments of a scene as classes of their own."""
    metadata = Metadata()
    names = ["background", *(f"object {number}" for number in range(1, count))][:count]
    colors = truth_colors(count).tolist()
    metadata.thing_classes = metadata.stuff_classes = names
    metadata.thing_colors = metadata.stuff_colors = colors
    return metadata
