"""Supervised classes of slots."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from slotseg.errors import DatasetError


class ClassLoss:
    """Cross entropy of every slot's class, "no object" for slots that no segment was given to.

    As in DETR (Carion et al. 2020, eq. 2) the no-object term has a small weight, because most slots
    are left over. A left-over slot that lies mostly where nobody knows the truth (void and crowd)
    is asked nothing: it may well have found something there.

    Args:
        weight: factor of the loss.
        no_object_weight: weight of a left-over slot relative to a matched one.
    """

    def __init__(self, weight: float, no_object_weight: float) -> None:
        self.weight = weight
        self.no_object_weight = no_object_weight

    def __call__(
        self,
        class_logits: Tensor,
        slot_of: Tensor,
        categories: Tensor,
        known_share: Tensor,
        confidence: Tensor | None = None,
    ) -> Tensor:
        """The weighted scalar loss.

        Args:
            class_logits: ``[B, K, C + 1]``, the last entry is "no object".
            slot_of: ``[B, S]`` int64, the slot of each segment or -1 (:class:`MaskMatcher`).
            categories: ``[B, S]`` int64, contiguous class of each segment.
            known_share: ``[B, K]``, the share of each slot's mask on pixels with a truth.
            confidence: ``[B, S']`` in 0..1, with S' >= S, what each segment counts; None: all 1.
                The mean is over all slots that are asked, whatever they count.
        """
        no_object = class_logits.shape[2] - 1
        target = torch.full(class_logits.shape[:2], no_object, device=class_logits.device)
        image, segment = (slot_of >= 0).nonzero(as_tuple=True)
        target[image, slot_of[image, segment]] = categories[image, segment]
        left_over = target == no_object
        weight = torch.where(left_over, self.no_object_weight, 1.0)
        weight = weight * (~left_over | (known_share >= 0.5))
        entropy = F.cross_entropy(
            class_logits.float().flatten(0, 1), target.flatten(), reduction="none"
        )
        entropy = entropy * weight.flatten()
        if confidence is not None:
            counts = torch.ones_like(weight)
            counts[image, slot_of[image, segment]] = confidence[image, segment]
            entropy = entropy * counts.flatten()
        return self.weight * entropy.sum() / weight.sum().clamp_min(1.0)


def check_categories(categories: Tensor, num_classes: int, file_names: list[str]) -> None:
    """Refuse classes that the model does not have, naming the file.

    Args:
        categories: ``[B, S]`` int64, -1 where there is no segment.
    """
    wrong = (categories >= num_classes).any(dim=1)
    if wrong.any():
        image = int(wrong.nonzero()[0])
        raise DatasetError(
            f"{file_names[image]}: has class {int(categories[image].max())}, but the model has "
            f"{num_classes} classes (of the first set of DATASETS.TRAIN); train on sets of the "
            "same classes"
        )
