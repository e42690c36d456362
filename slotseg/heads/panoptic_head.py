"""Slots to classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from slotseg.classes import training_classes
from slotseg.heads.build import HEAD_REGISTRY
from slotseg.heads.panoptic_inference import panoptic_inference
from slotseg.slots.state import SlotState


@HEAD_REGISTRY.register()
class PanopticHead(nn.Module):
    """A class, or "no object", for every slot; together with the masks they are the segments.

    The masks of all slots share out every pixel. For a stuff class the shares of all slots are
    therefore added, each as far as the slot is of that class; a thing is one slot, with the
    probability of its best thing class. Each pixel goes to the highest of these.

    Args:
        slot_dim: length D of a slot.
        is_thing: of each of the C classes, in contiguous order.
        object_threshold: slots whose best thing class is less probable than this are no thing.
        min_area: segments of fewer pixels than this are left out.
    """

    @configurable
    def __init__(
        self,
        *,
        slot_dim: int,
        is_thing: Sequence[bool],
        object_threshold: float,
        min_area: int,
    ) -> None:
        super().__init__()
        self.is_thing = tuple(is_thing)
        self.object_threshold = object_threshold
        self.min_area = min_area
        self.classes = nn.Sequential(
            nn.LayerNorm(slot_dim),
            nn.Linear(slot_dim, 2 * slot_dim),
            nn.ReLU(inplace=True),
            nn.Linear(2 * slot_dim, len(self.is_thing) + 1),
        )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """The classes are those of the first set of ``DATASETS.TRAIN``."""
        return {
            "slot_dim": cfg.MODEL.SLOTS.DIM,
            "is_thing": training_classes(cfg).is_thing,
            "object_threshold": cfg.MODEL.HEAD.OBJECT_THRESHOLD,
            "min_area": cfg.MODEL.HEAD.MIN_AREA,
        }

    def forward(self, slots: SlotState) -> Tensor:
        """Slots ``[B, K, D]`` to class logits ``[B, K, C + 1]`` float32, the last "no object"."""
        return self.classes(slots.slots).float()

    def segment(
        self, class_logits: Tensor, masks: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, list[dict[str, Any]]]:
        """Panoptic segments of one image, see :func:`panoptic_inference`.

        Args:
            class_logits: ``[K, C + 1]``.
            masks: ``[K, h, w]`` in 0..1.
            size: (height, width) of the wanted map.
        """
        class_probs = class_logits.softmax(dim=-1)[:, :-1]
        thing = torch.tensor(self.is_thing, device=masks.device)
        stuff_classes = (~thing).nonzero()[:, 0]
        stuff_masks = torch.einsum("kc,khw->chw", class_probs[:, stuff_classes], masks)
        candidates = torch.cat(
            [F.one_hot(stuff_classes, len(thing)).to(class_probs), class_probs * thing]
        )
        return panoptic_inference(
            F.pad(candidates, (0, 1)),
            torch.cat([stuff_masks, masks]),
            size,
            self.is_thing,
            object_threshold=self.object_threshold,
            overlap_threshold=0.0,
            mask_threshold=0.0,
            min_area=self.min_area,
        )
