"""Panoptic truth in the terms of Detectron2's models. Pure functions of tensors on any device."""

from __future__ import annotations

import torch
from detectron2.structures import BitMasks, Boxes, Instances
from torch import Tensor

from slotseg.classes import IGNORE_LABEL, ClassSet
from slotseg.meta_arch.truth import PanopticTruth


def detection_targets(truth: PanopticTruth, classes: ClassSet) -> Instances:
    """The objects that are visible, as a detector is trained with them; crowd is left out.

    Returns:
        ``Instances`` of size (h, w), N of them, N may be 0: ``gt_boxes`` ``[N, 4]`` float32 in
        pixels with exclusive right and lower ends, ``gt_classes`` ``[N]`` int64 numbering the
        thing classes alone from 0, ``gt_masks`` ``[N, h, w]`` bool.
    """
    shown = torch.nonzero(truth.is_object & (truth.areas() > 0)).flatten()
    masks = truth.segment_map == shown.view(-1, 1, 1)
    targets = Instances(tuple(truth.segment_map.shape))
    targets.gt_boxes = Boxes(_boxes(masks))
    targets.gt_classes = _thing_numbers(classes, truth.category.device)[truth.category[shown]]
    targets.gt_masks = BitMasks(masks)
    return targets


def stuff_targets(truth: PanopticTruth, classes: ClassSet) -> Tensor:
    """What Panoptic FPN's semantic head learns (Kirillov et al. 2019, section 3).

    Returns:
        ``[h, w]`` int64: 0 for objects, k for the k-th stuff class counted from 1, and
        ``IGNORE_LABEL`` for void and crowd.
    """
    number_of_class = torch.zeros(len(classes), dtype=torch.int64, device=truth.category.device)
    for number, stuff in enumerate(classes.stuff, start=1):
        number_of_class[stuff] = number
    numbers = number_of_class[truth.category].masked_fill(truth.is_crowd, IGNORE_LABEL)
    return truth.paint(numbers, void=IGNORE_LABEL)


def center_targets(
    truth: PanopticTruth,
    *,
    sigma: int,
    small_area: int = 0,
    small_weight: float = 1.0,
    ignore_stuff_in_offset: bool = True,
    ignore_crowd_in_semantic: bool = False,
) -> dict[str, Tensor]:
    """What Panoptic-DeepLab learns (Cheng et al. 2020, section 3.2), by Detectron2's names.

    Every object has a centre, the mean of its pixels. Other than Detectron2's own generator, which
    also raises the heatmap at the middle of a crowd region, this one knows no centre of a crowd.

    Args:
        truth: the segments.
        sigma: standard deviation of a centre's peak in the heatmap, in pixels; it is cut off
            3 sigma + 1 pixels from the centre.
        small_area: objects with fewer pixels count ``small_weight`` times in the semantic loss.
        small_weight: see ``small_area``.
        ignore_stuff_in_offset: offsets are learnt on objects only; otherwise stuff learns zeros.
        ignore_crowd_in_semantic: crowd teaches no class; otherwise the class of its objects.

    Returns:
        ``sem_seg`` ``[h, w]`` int64 contiguous classes or ``IGNORE_LABEL``; float32:
        ``sem_seg_weights`` ``[h, w]``; ``center`` ``[h, w]`` in 0..1, ``center_weights``
        ``[1, h, w]`` 0 or 1; ``offset`` ``[2, h, w]`` from a pixel to its centre (down, right) in
        pixels, 0 outside objects, ``offset_weights`` ``[1, h, w]`` 0 or 1.
    """
    areas = truth.areas()
    shown = truth.is_object & (areas > 0)
    rows, columns = _pixel_coordinates(truth.segment_map)
    center_row = _mean_in_segments(rows, truth, areas)
    center_column = _mean_in_segments(columns, truth, areas)

    category = truth.category
    if ignore_crowd_in_semantic:
        category = category.masked_fill(truth.is_crowd, IGNORE_LABEL)
    small = shown & (areas < small_area)
    weights = torch.ones_like(center_row, dtype=torch.float32).masked_fill(small, small_weight)
    told_apart = (~truth.is_crowd).float()
    with_offset = truth.is_object.float() if ignore_stuff_in_offset else told_apart

    on_object = truth.paint(shown, void=False)
    down = truth.paint(center_row, void=0) - rows
    right = truth.paint(center_column, void=0) - columns
    offset = torch.stack([down, right]).float().masked_fill(~on_object, 0.0)
    return {
        "sem_seg": truth.paint(category, void=IGNORE_LABEL),
        "sem_seg_weights": truth.paint(weights, void=1),
        "center": _peaks(center_row[shown], center_column[shown], truth.segment_map.shape, sigma),
        "center_weights": truth.paint(told_apart, void=0).unsqueeze(0),
        "offset": offset,
        "offset_weights": truth.paint(with_offset, void=0).unsqueeze(0),
    }


def _thing_numbers(classes: ClassSet, device: torch.device) -> Tensor:
    """``[C]``: contiguous class to its number among things; -1 for stuff."""
    numbers = torch.full((len(classes),), -1, dtype=torch.int64, device=device)
    for number, thing in enumerate(classes.things):
        numbers[thing] = number
    return numbers


def _boxes(masks: Tensor) -> Tensor:
    """``[N, 4]`` float32 tight boxes of masks ``[N, h, w]``, none of them empty."""
    in_row, in_column = masks.any(dim=2).to(torch.uint8), masks.any(dim=1).to(torch.uint8)
    height, width = masks.shape[1:]
    return torch.stack(
        [
            in_column.argmax(dim=1),
            in_row.argmax(dim=1),
            width - in_column.flip(1).argmax(dim=1),
            height - in_row.flip(1).argmax(dim=1),
        ],
        dim=1,
    ).float()


def _pixel_coordinates(segment_map: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of every pixel, ``[h, w]`` int64 each."""
    height, width = segment_map.shape
    rows = torch.arange(height, device=segment_map.device).view(-1, 1).expand(height, width)
    columns = torch.arange(width, device=segment_map.device).view(1, -1).expand(height, width)
    return rows, columns


def _mean_in_segments(values: Tensor, truth: PanopticTruth, areas: Tensor) -> Tensor:
    """``[S]`` float64; whole numbers are summed, so that the order of the sum does not matter."""
    sums = values.new_zeros(len(areas) + 1)
    sums.index_add_(0, (truth.segment_map + 1).flatten(), values.flatten())
    return sums[1:].double() / areas.clamp(min=1)


def _peaks(rows: Tensor, columns: Tensor, size: tuple[int, int], sigma: int) -> Tensor:
    """``[h, w]`` float32: the largest of all centres' peaks at every pixel."""
    height, width = size
    reach = 3 * sigma + 1
    distance = torch.arange(-reach, reach + 1, device=rows.device)
    curve = torch.exp(-(distance.double() ** 2) / (2 * sigma**2)).float()
    heatmap = torch.zeros(height, width, device=rows.device)
    for row, column in torch.stack([rows, columns], dim=1).round().long().tolist():
        top, bottom = max(row - reach, 0), min(row + reach + 1, height)
        left, right = max(column - reach, 0), min(column + reach + 1, width)
        part = heatmap[top:bottom, left:right]
        down = curve[top - row + reach : bottom - row + reach]
        across = curve[left - column + reach : right - column + reach]
        torch.maximum(part, down.view(-1, 1) * across, out=part)
    return heatmap
