"""Which slot answers for which true segment."""

from __future__ import annotations

import logging

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from slotseg.errors import NonFiniteLossError

logger = logging.getLogger(__name__)


class MaskMatcher:
    """Hungarian matching of slots to true segments (Kuhn 1955, as in DETR, Carion et al. 2020).

    Args:
        pixel_weight: factor of the cross entropy a slot would pay for the segment's pixels; of
            independent masks the binary one, over all pixels.
        dice_weight: factor of the soft dice error.
        class_weight: factor of the probability that a slot gives to the segment's class.
    """

    def __init__(self, pixel_weight: float, dice_weight: float, class_weight: float = 0.0) -> None:
        self.pixel_weight = pixel_weight
        self.dice_weight = dice_weight
        self.class_weight = class_weight
        self._warned_about_slots = False

    @torch.no_grad()
    def __call__(
        self,
        log_masks: Tensor,
        truth: Tensor,
        file_names: list[str],
        class_logits: Tensor | None = None,
        categories: Tensor | None = None,
        *,
        log_others: Tensor | None = None,
        present: Tensor | None = None,
        allowed: Tensor | None = None,
    ) -> Tensor:
        """Match one batch.

        Args:
            log_masks: ``[B, K, P]`` float32, log of the masks at P pixels.
            truth: ``[B, S, P]`` float32, the share of each pixel that each segment covers; void
                pixels are 0 everywhere, absent segments are 0 at every pixel.
            file_names: for messages.
            class_logits: ``[B, K, C + 1]``, for models that classify slots.
            categories: ``[B, S]`` int64, the class of each segment, -1 for none.
            log_others: ``[B, K, P]`` float32, log of 1 - mask, of independent masks; None: the
                masks are a softmax over K.
            present: ``[B, S]`` bool, segments to be matched; None: those that cover a pixel.
            allowed: ``[B, K, S]`` bool, pairs that may be matched; None: all.

        Returns:
            ``[B, S]`` int64: the slot of each segment, -1 for absent segments, for those beyond
            the number of slots and for those that no slot is allowed to take.

        Raises:
            NonFiniteLossError: NaN or infinite costs, naming the files.
        """
        cost = self._cost(log_masks, log_others, truth)
        if class_logits is not None:
            cost = cost - self.class_weight * _class_agreement(class_logits, categories)
        if not torch.isfinite(cost).all():
            bad = [
                name
                for name, finite in zip(
                    file_names, torch.isfinite(cost).flatten(1).all(1), strict=True
                )
                if not finite
            ]
            raise NonFiniteLossError(
                f"matching costs are not finite for {', '.join(bad)}; lower SOLVER.BASE_LR or "
                "switch SOLVER.AMP.ENABLED off"
            )
        present = (truth.sum(dim=2) > 0 if present is None else present).cpu()
        if allowed is None:
            allowed = torch.ones_like(cost, dtype=torch.bool)
        # The solver wants a price for every pair: one that no other pairs could make up for.
        forbidden = 2.0 * min(cost.shape[1:]) * cost.abs().amax() + 1.0
        costs = cost.where(allowed, forbidden).cpu().numpy()
        may = allowed.cpu().numpy()
        slot_of = torch.full(present.shape, -1, dtype=torch.int64)
        for image, segments in enumerate(present):
            index = segments.nonzero().squeeze(1)
            slots, columns = linear_sum_assignment(costs[image][:, index.numpy()])
            taken = may[image][slots, index.numpy()[columns]]
            slots, columns = slots[taken], columns[taken]
            slot_of[image, index[torch.as_tensor(columns)]] = torch.as_tensor(slots)
        self._warn_about_slots(present.sum(dim=1), log_masks.shape[1], file_names)
        return slot_of.to(log_masks.device)

    def _cost(self, log_masks: Tensor, log_others: Tensor | None, truth: Tensor) -> Tensor:
        """``[B, K, S]``: products of all slots with all segments of the batch at once."""
        segments = truth.transpose(1, 2)
        known = truth.sum(dim=1, keepdim=True)
        area = truth.sum(dim=2).clamp_min(1e-6).unsqueeze(1)
        if log_others is None:
            entropy = -(log_masks @ segments) / area
        else:
            # Inside the segment log p, elsewhere log (1 - p).
            entropy = (log_others - log_masks) @ segments - log_others @ known.transpose(1, 2)
            entropy = entropy / known.sum(dim=2, keepdim=True).clamp_min(1e-6)
        masks = log_masks.exp() * known
        dice = 1.0 - 2.0 * (masks @ segments) / (masks.sum(dim=2, keepdim=True) + area)
        return self.pixel_weight * entropy + self.dice_weight * dice

    def _warn_about_slots(self, counts: Tensor, num_slots: int, file_names: list[str]) -> None:
        most = int(counts.max())
        if most > num_slots and not self._warned_about_slots:
            self._warned_about_slots = True
            logger.warning(
                "%s has %d segments (background included) but there are %d slots: the segments "
                "beyond that are left out of the loss; raise MODEL.SLOTS.NUM_SLOTS or set "
                "DATASETS.MAX_OBJECTS (said once)",
                file_names[int(counts.argmax())],
                most,
                num_slots,
            )


def _class_agreement(class_logits: Tensor, categories: Tensor) -> Tensor:
    """``[B, K, S]``, the probability that each slot gives to each segment's class."""
    probabilities = class_logits.float().softmax(dim=2)
    index = categories.clamp_min(0).unsqueeze(1).expand(-1, class_logits.shape[1], -1)
    return probabilities.gather(2, index)
