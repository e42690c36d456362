"""Slots to classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from slotseg.classes import training_classes
from slotseg.errors import ConfigError
from slotseg.heads.build import HEAD_REGISTRY
from slotseg.heads.instance_inference import instance_inference
from slotseg.heads.panoptic_inference import panoptic_inference
from slotseg.ops.competition import bilinear
from slotseg.slots.state import SlotState


@HEAD_REGISTRY.register()
class PanopticHead(nn.Module):
    """A class, or "no object", for every slot; together with the masks they are the segments.

    Where masks share out every pixel, the shares of all slots are added for a stuff class, each as
    far as the slot is of that class; a thing is one slot, with the probability of its best thing
    class. Each pixel goes to the highest of these. Where masks are independent, slots compete by
    the rule of MaskFormer (:func:`panoptic_inference`), and slots of one stuff class are merged.

    Args:
        slot_dim: length D of a slot.
        is_thing: of each of the C classes, in contiguous order.
        object_threshold: slots whose best thing class is less probable than this are no thing; with
            independent masks slots whose best class is less probable are nothing.
        min_area: segments of fewer pixels than this are left out.
        independent: masks are independent of each other; otherwise they share out every pixel.
        mask_threshold, overlap_threshold: of independent masks, see :func:`panoptic_inference`.
        outputs: what :meth:`infer` gives, of ``OUTPUTS``.
        max_instances: see :func:`instance_inference`.
        reinit_classes: whether checkpoints that start a training leave the class layer alone.

    Raises:
        ConfigError: an output that there is not.
    """

    OUTPUTS = ("panoptic_seg", "sem_seg", "instances")
    # For checkpoints: the layer with one row a class, and one for "no object".
    class_layer = "classes.3"

    @configurable
    def __init__(
        self,
        *,
        slot_dim: int,
        is_thing: Sequence[bool],
        object_threshold: float,
        min_area: int,
        independent: bool = False,
        mask_threshold: float = 0.5,
        overlap_threshold: float = 0.8,
        outputs: Sequence[str] = ("panoptic_seg",),
        max_instances: int = 100,
        reinit_classes: bool = False,
    ) -> None:
        super().__init__()
        for name in outputs:
            if name not in self.OUTPUTS:
                raise ConfigError(
                    f"MODEL.HEAD.OUTPUTS: {name!r} is unknown; choose from "
                    f"{', '.join(self.OUTPUTS)}"
                )
        self.is_thing = tuple(is_thing)
        self.object_threshold = object_threshold
        self.min_area = min_area
        self.independent = independent
        self.mask_threshold = mask_threshold
        self.overlap_threshold = overlap_threshold
        self.outputs = tuple(outputs)
        self.max_instances = max_instances
        self.reinit_classes = reinit_classes
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
            "independent": cfg.MODEL.MASK_ACTIVATION == "sigmoid",
            "mask_threshold": cfg.MODEL.HEAD.MASK_THRESHOLD,
            "overlap_threshold": cfg.MODEL.HEAD.OVERLAP_THRESHOLD,
            "outputs": cfg.MODEL.HEAD.OUTPUTS,
            "max_instances": cfg.TEST.DETECTIONS_PER_IMAGE,
            "reinit_classes": cfg.MODEL.HEAD.REINIT_CLASSES,
        }

    def forward(self, slots: SlotState) -> Tensor:
        """Slots ``[B, K, D]`` to class logits ``[B, K, C + 1]`` float32, the last "no object"."""
        return self.classes(slots.slots).float()

    def infer(self, class_logits: Tensor, masks: Tensor, size: tuple[int, int]) -> dict[str, Any]:
        """What ``MODEL.HEAD.OUTPUTS`` names, of one image.

        Args:
            class_logits: ``[K, C + 1]``.
            masks: ``[K, h, w]`` in 0..1.
            size: (height, width) of the results.

        Returns:
            Any of ``panoptic_seg`` (:meth:`segment`), ``sem_seg`` (:meth:`class_map`) and
            ``instances`` (:func:`instance_inference`).
        """
        found: dict[str, Any] = {}
        if "panoptic_seg" in self.outputs:
            found["panoptic_seg"] = self.segment(class_logits, masks, size)
        if "sem_seg" in self.outputs:
            found["sem_seg"] = self.class_map(class_logits, masks, size)
        if "instances" in self.outputs:
            found["instances"] = instance_inference(
                class_logits.softmax(dim=-1),
                masks,
                size,
                self.is_thing,
                mask_threshold=self.mask_threshold,
                limit=self.max_instances,
            )
        return found

    def class_map(self, class_logits: Tensor, masks: Tensor, size: tuple[int, int]) -> Tensor:
        """``sum_k p(c | k) m_k`` of every class and pixel, ``[C, height, width]`` float32.

        It is made at the resolution of the masks: K masks at full size are not needed for a sum.
        """
        class_probs = class_logits.float().softmax(dim=-1)[:, :-1]
        return bilinear(torch.einsum("kc,khw->chw", class_probs, masks.float()), size)

    def segment(
        self, class_logits: Tensor, masks: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, list[dict[str, Any]]]:
        """Panoptic segments of one image, see :func:`panoptic_inference`.

        Args:
            class_logits: ``[K, C + 1]``.
            masks: ``[K, h, w]`` in 0..1.
            size: (height, width) of the wanted map.
        """
        if self.independent:
            return panoptic_inference(
                class_logits.softmax(dim=-1),
                masks,
                size,
                self.is_thing,
                object_threshold=self.object_threshold,
                overlap_threshold=self.overlap_threshold,
                mask_threshold=self.mask_threshold,
                min_area=self.min_area,
            )
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
