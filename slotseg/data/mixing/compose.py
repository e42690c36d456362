"""One image made of patches of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from slotseg.data.mixing.segments import Remains, SegmentTable

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Patch:
    """A window of an image, and where it goes.

    Attributes:
        source: number of the image in its batch.
        window: (top, left, height, width) in that image, in pixels.
        box: the same in the new image; where it is smaller than the window, the window is shrunk.
    """

    source: int
    window: Box
    box: Box

    @property
    def enlargement(self) -> float:
        """Area of the box as a share of the window's."""
        return self.box[2] * self.box[3] / (self.window[2] * self.window[3])


class Source:
    """An image that patches are taken of.

    Args:
        sample: a mapped dict with truth; not changed.
    """

    def __init__(self, sample: dict[str, Any]) -> None:
        self.sample = sample

    @property
    def num_segments(self) -> int:
        """S, the segments that are listed."""
        return len(self.sample["segment_is_object"])

    @cached_property
    def marks(self) -> Tensor:
        """``[H, W]`` int32, 0 for void and s + 1 for segment s; of half the memory of the map."""
        return self.sample["segment_map"].int() + 1

    @cached_property
    def areas(self) -> Tensor:
        """``[S]`` int64, pixels of each segment."""
        return torch.bincount(self.marks.flatten(), minlength=self.num_segments + 1)[1:]

    @cached_property
    def pixels(self) -> np.ndarray:
        """The image as OpenCV has it, uint8 ``[H, W, C]``, or ``[H, W]`` of one channel."""
        return cv2.merge(list(self.sample["image"].cpu().numpy()))


def compose(
    sources: Sequence[Source], patches: Sequence[Patch], remains: Remains
) -> dict[str, Any]:
    """Put patches on each other, the later on top, and join their segments.

    A thing stays one segment however many parts of it are seen, and one that is seen in two patches
    of the same image is two things, since there are two pictures of it. Stuff of one class is one
    segment wherever it comes from, and so are crowds of one class. What a patch has as void is
    void.

    Args:
        sources: the images of a batch, of equal size ``[C, H, W]``.
        patches: the first names the image that the result is a version of; together they cover it.
        remains: what is too little to stay a segment; it becomes void.

    Returns:
        A mapped dict of that size. Segments that are not seen are not listed. ``mixed_with`` names
        the files of the other images, and of those that these were mixed with before; all else is
        of the first patch's image.

    Raises:
        DatasetError: only some of the images have classes.
    """
    used = [sources[patch.source] for patch in patches]
    samples = [source.sample for source in used]
    image = torch.empty_like(samples[0]["image"])
    # Every patch's void has a mark of its own in front of those of its segments, so that marks are
    # counted and replaced without a look at what they stand for.
    marks = torch.empty_like(used[0].marks)
    place_of_mark, former, next_mark = [], [], 0
    for patch, source in zip(patches, used, strict=True):
        seen = _window_of_map(source.marks, patch)
        torch.add(seen, next_mark, out=_inside(marks, patch.box))
        _inside(image, patch.box).copy_(_window_of_image(source, patch))
        former.append(source.areas.double() * patch.enlargement)
        place_of_mark.append(torch.arange(source.num_segments) + next_mark + 1)
        next_mark += source.num_segments + 1
    places = torch.cat(place_of_mark).to(marks.device)
    visible = torch.bincount(marks.flatten(), minlength=next_mark)[places]
    table = SegmentTable.of(samples, marks.device)
    numbers, entries = table.merge(visible, torch.cat(former), remains)
    number_of_mark = numbers.new_full((next_mark,), -1).index_copy(0, places, numbers)
    own = samples[0].get("file_name", "")
    shown = [
        name
        for sample in samples
        for name in (sample.get("file_name", ""), *sample.get("mixed_with", ()))
    ]
    return {
        **samples[0],
        "image": image,
        "segment_map": number_of_mark.index_select(0, marks.flatten()).view(marks.shape),
        **entries,
        "mixed_with": tuple(name for name in dict.fromkeys(shown) if name != own),
    }


def _inside(array: Any, box: Box) -> Any:
    """A view of the last two dimensions of a tensor or an array."""
    top, left, height, width = box
    return array[..., top : top + height, left : left + width]


def _window_of_map(marks: Tensor, patch: Patch) -> Tensor:
    """By nearest neighbour at pixel centres."""
    if patch.window[2:] == patch.box[2:]:
        return _inside(marks, patch.window)
    rows, columns = (
        # Whole numbers: the centre of pixel r lies at (r + 1/2) * old / new, rounded down.
        start + (2 * torch.arange(new, device=marks.device) + 1) * old // (2 * new)
        for start, old, new in zip(patch.window[:2], patch.window[2:], patch.box[2:], strict=True)
    )
    return marks.index_select(0, rows).index_select(1, columns)


def _window_of_image(source: Source, patch: Patch) -> Tensor:
    """Shrunk so that no pixel of the window is left out, ``[C, h, w]`` uint8."""
    if patch.window[2:] == patch.box[2:]:
        return _inside(source.sample["image"], patch.window)
    top, left, height, width = patch.window
    window = source.pixels[top : top + height, left : left + width]
    # Bilinear takes two pixels a side, which are all down to half the size, and is much faster.
    enough = 2 * patch.box[2] >= height and 2 * patch.box[3] >= width
    method = cv2.INTER_LINEAR if enough else cv2.INTER_AREA
    shrunk = cv2.resize(window, patch.box[:1:-1], interpolation=method)
    return torch.from_numpy(shrunk.reshape(*shrunk.shape[:2], -1)).permute(2, 0, 1)
