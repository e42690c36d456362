"""Detectron2's Panoptic-DeepLab with this project's input and output."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.projects.panoptic_deeplab import PanopticDeepLab

from slotseg.classes import IGNORE_LABEL
from slotseg.meta_arch.stock.classes import classes_for
from slotseg.meta_arch.stock.segments import add_confidence, from_class_and_instance
from slotseg.meta_arch.stock.targets import center_targets
from slotseg.meta_arch.truth import PanopticTruth

# Image sides are padded to multiples of this where neither the config nor the backbone asks for
# one: the heads' outputs are enlarged by whole factors and must then have the targets' size.
_SIZE_DIVISIBILITY = 32
# Encodes a class and an instance of it in one number, inside Detectron2's model only.
_LABEL_DIVISOR = 1 << 20


@META_ARCH_REGISTRY.register()
class StockPanopticDeepLab(PanopticDeepLab):
    """Panoptic-DeepLab (Cheng et al., "Panoptic-DeepLab", CVPR 2020).

    Network, losses and grouping are Detectron2's and follow its config, the targets follow
    ``INPUT.GAUSSIAN_SIGMA``, ``SMALL_INSTANCE_AREA``, ``SMALL_INSTANCE_WEIGHT``,
    ``IGNORE_STUFF_IN_OFFSET`` and ``IGNORE_CROWD_IN_SEMANTIC``. The number of classes and the
    ignored label follow the data set.

    The image-level feature of the ASPP is pooled as in Detectron2: over windows of the size of the
    training crops where ``INPUT.RESIZE`` is "shortest_edge" and ``INPUT.CROP`` absolute (the sides
    of all images must be multiples of the crop's), over the whole image otherwise.

    Args:
        cfg: a config of Detectron2 with this project's keys.
    """

    def __init__(self, cfg: CfgNode) -> None:
        classes = classes_for(cfg)
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = len(classes)
        cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = IGNORE_LABEL
        cfg.MODEL.PANOPTIC_DEEPLAB.PREDICT_INSTANCES = False
        cfg.MODEL.PANOPTIC_DEEPLAB.BENCHMARK_NETWORK_SPEED = False
        if cfg.INPUT.RESIZE != "shortest_edge" or cfg.INPUT.CROP.TYPE != "absolute":
            # Detectron2 takes the crop for the size of the training images.
            cfg.INPUT.CROP.ENABLED = False
        super().__init__(cfg)
        self.classes = classes
        self.meta = SimpleNamespace(
            thing_dataset_id_to_contiguous_id={c: c for c in classes.things},
            label_divisor=_LABEL_DIVISOR,
        )
        if self.size_divisibility <= 0 and self.backbone.size_divisibility <= 0:
            self.size_divisibility = _SIZE_DIVISIBILITY
        self.target_options = {
            "sigma": cfg.INPUT.GAUSSIAN_SIGMA,
            "small_area": cfg.INPUT.SMALL_INSTANCE_AREA,
            "small_weight": cfg.INPUT.SMALL_INSTANCE_WEIGHT,
            "ignore_stuff_in_offset": cfg.INPUT.IGNORE_STUFF_IN_OFFSET,
            "ignore_crowd_in_semantic": cfg.INPUT.IGNORE_CROWD_IN_SEMANTIC,
        }
        if cfg.MODEL.CHANNELS_LAST:
            # Convolutions pass the memory order of their weights on.
            self.to(memory_format=torch.channels_last)

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Losses in training, segments otherwise.

        Args:
            batched_inputs: as :meth:`StockPanopticFPN.forward`.

        Returns:
            In training a dict of scalar losses. In inference one dict an image:

            * ``panoptic_seg``: ``[height, width]`` int32 segment ids, 0 for nothing, and
              ``segments_info``, see :func:`from_class_and_instance`;
            * ``sem_seg``: ``[C, height, width]`` float32, logits of the contiguous classes;
            * where the input's ``want_pixel_probs`` is true, their softmax as ``pixel_probs``, and
              in ``segments_info`` the ``confidence``, the mean of it over a segment's pixels.

        Raises:
            DatasetError: training without panoptic truth.
        """
        if self.training:
            return super().forward(
                [
                    {
                        "image": x["image"],
                        **center_targets(PanopticTruth.of(x, self.device), **self.target_options),
                    }
                    for x in batched_inputs
                ]
            )
        outputs = super().forward([_with_size(x) for x in batched_inputs])
        return [
            self._answer(output, x.get("want_pixel_probs", False))
            for output, x in zip(outputs, batched_inputs, strict=True)
        ]

    def _answer(self, output: dict[str, Any], want_pixel_probs: bool) -> dict[str, Any]:
        answer = {
            "panoptic_seg": from_class_and_instance(
                output["panoptic_seg"][0], _LABEL_DIVISOR, self.classes
            ),
            "sem_seg": output["sem_seg"],
        }
        if want_pixel_probs:
            answer["pixel_probs"] = probs = output["sem_seg"].float().softmax(dim=0)
            add_confidence(answer["panoptic_seg"], probs, {c: c for c in range(len(probs))})
        return answer


def _with_size(sample: dict[str, Any]) -> dict[str, Any]:
    """Only what inference needs: truth in the sample would make Detectron2 compute targets."""
    height, width = sample["image"].shape[1:]
    return {
        "image": sample["image"],
        "height": sample.get("height", height),
        "width": sample.get("width", width),
    }
