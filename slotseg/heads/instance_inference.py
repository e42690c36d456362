"""Things as Detectron2's instances, from slots with classes and masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.structures import BitMasks, Instances
from torch import Tensor

from slotseg.ops.competition import full_size_chunks


@torch.no_grad()
def instance_inference(
    class_probs: Tensor,
    masks: Tensor,
    size: tuple[int, int],
    is_thing: Sequence[bool],
    *,
    mask_threshold: float = 0.5,
    limit: int = 100,
) -> Instances:
    """Every slot as an instance of its most probable thing class, best first.

    The score is the class probability times the mean of the mask where it holds pixels
    (Mask2Former, Cheng et al. 2022, in its instance inference). Nothing is left out for a low
    score: average precision wants them all.

    Args:
        class_probs: ``[K, C]`` or ``[K, C + 1]`` in 0..1; columns beyond the classes are ignored.
        masks: ``[K, h, w]`` in 0..1, at any resolution.
        size: (height, width) of the result in pixels.
        is_thing: one entry a class, C in all.
        mask_threshold: a mask holds the pixels where it is above this.
        limit: at most so many instances, those of the highest class probability.

    Returns:
        ``Instances`` of that size with ``pred_masks`` ``[N, height, width]`` bool, none empty,
        ``pred_boxes`` around them, ``pred_classes`` ``[N]`` int64 (contiguous) and ``scores``
        ``[N]`` float32, descending.
    """
    things = torch.tensor([c for c, thing in enumerate(is_thing) if thing], dtype=torch.int64)
    things = things.to(masks.device)
    if len(things) == 0:
        class_probs, masks = class_probs[:0], masks[:0]
        probability, category = class_probs.new_zeros(0), things
    else:
        probability, column = class_probs[:, things].float().max(dim=1)
        category = things[column]
    chosen = probability.argsort(descending=True, stable=True)[:limit]
    held, sureness = [], []
    for _, full in full_size_chunks(masks[chosen], size):
        inside = full > mask_threshold
        held.append(inside)
        sureness.append((full * inside).sum(dim=(1, 2)) / inside.sum(dim=(1, 2)).clamp_min(1))
    pred_masks = torch.cat([masks.new_zeros((0, *size), dtype=torch.bool), *held])
    scores = probability[chosen] * torch.cat([probability.new_zeros(0), *sureness])
    order = scores.argsort(descending=True, stable=True)
    order = order[pred_masks.flatten(1).any(dim=1)[order]]
    instances = Instances(tuple(size))
    instances.pred_masks = pred_masks[order]
    instances.pred_boxes = BitMasks(instances.pred_masks).get_bounding_boxes()
    instances.pred_classes = category[chosen][order]
    instances.scores = scores[order]
    return instances
