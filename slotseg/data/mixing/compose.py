"""One image made of patches of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from slotseg.data.mixing.segments import Remains, SegmentTable, areas, renumber

__all__ = ["Patch", "Remains", "compose"]


@dataclass(frozen=True)
class Patch:
    """A window of an image, and where it goes; all in pixels.

    Attributes:
        source: number of the image in its batch.
        size: (height, width) to which that image is resized first.
        corner: (top, left) of the window in the resized image.
        box: (top, left, height, width) in the new image, as large as the window.
    """

    source: int
    size: tuple[int, int]
    corner: tuple[int, int]
    box: tuple[int, int, int, int]


def compose(
    dicts: Sequence[dict[str, Any]], patches: Sequence[Patch], remains: Remains
) -> dict[str, Any]:
    """Put patches on each other, the later on top, and join their segments.

    A thing stays one segment however many parts of it are seen, and one that is seen in two patches
    of the same image is two things, since there are two pictures of it. Stuff of one class is one
    segment wherever it comes from, and so are crowds of one class. What a patch has as void is
    void.

    Args:
        dicts: mapped images of a batch with truth, of equal size ``[C, H, W]``; not changed.
        patches: the first names the image that the result is a version of; together they cover it.
        remains: what is too little to stay a segment; it becomes void.

    Returns:
        A mapped dict of that size. Segments that are not seen are not listed. ``mixed_with`` names
        the files of the other images; all else is of the first patch's image.
    """
    sources = [dicts[patch.source] for patch in patches]
    first = sources[0]
    image = torch.empty_like(first["image"])
    numbers = torch.full_like(first["segment_map"], -1)
    former, offset = [], 0
    for patch, source in zip(patches, sources, strict=True):
        count = len(source["segment_is_object"])
        segment_map = source["segment_map"]
        whole = areas(segment_map, count).double()
        former.append(whole * _enlargement(segment_map, patch.size))
        seen = _window_of_map(segment_map, patch)
        area = _inside(numbers, patch.box)
        area.copy_(torch.where(seen >= 0, seen + offset, seen) if offset else seen)
        _inside(image, patch.box).copy_(_window_of_image(source["image"], patch))
        offset += count
    table = SegmentTable.of(sources, numbers.device)
    number, entries = table.merge(areas(numbers, offset), torch.cat(former), remains)
    others = dict.fromkeys(source.get("file_name", "") for source in sources[1:])
    return {
        **first,
        "image": image,
        "segment_map": renumber(numbers, number),
        **entries,
        "mixed_with": tuple(name for name in others if name != first.get("file_name", "")),
    }


def _enlargement(segment_map: Tensor, size: tuple[int, int]) -> float:
    height, width = segment_map.shape
    return size[0] * size[1] / (height * width)


def _inside(array: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    top, left, height, width = box
    return array[..., top : top + height, left : left + width]


def _window_of_map(segment_map: Tensor, patch: Patch) -> Tensor:
    """Of the map resized by nearest neighbour at pixel centres, without resizing all of it."""
    if patch.size == tuple(segment_map.shape):
        return _inside(segment_map, (*patch.corner, *patch.box[2:]))
    rows, columns = (
        # Whole numbers: the centre of pixel r is (r + 1/2) * old / new, rounded down.
        (2 * torch.arange(start, start + length, device=segment_map.device) + 1) * old // (2 * new)
        for start, length, old, new in zip(
            patch.corner, patch.box[2:], segment_map.shape, patch.size, strict=True
        )
    )
    return segment_map[rows.unsqueeze(1), columns]


def _window_of_image(image: Tensor, patch: Patch) -> Tensor:
    """Of the image resized bilinearly with antialiasing, as mappers do it."""
    if patch.size != tuple(image.shape[1:]):
        image = _resized(image, patch.size)
    return _inside(image, (*patch.corner, *patch.box[2:]))


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    # Bytes are resized as bytes on CPUs only.
    values = image if image.device.type == "cpu" else image.float()
    resized = F.interpolate(values[None], size, mode="bilinear", antialias=True)[0]
    return (
        resized if resized.dtype == image.dtype else resized.round().clamp(0, 255).to(image.dtype)
    )
