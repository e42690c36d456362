"""Detectron2's Panoptic FPN with this project's input and output."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, PanopticFPN

from slotseg.classes import IGNORE_LABEL, ClassSet
from slotseg.meta_arch.stock.classes import classes_for
from slotseg.meta_arch.stock.segments import add_confidence, from_merged_ids
from slotseg.meta_arch.stock.targets import detection_targets, stuff_targets
from slotseg.meta_arch.truth import PanopticTruth


@META_ARCH_REGISTRY.register()
class StockPanopticFPN(PanopticFPN):
    """Panoptic FPN (Kirillov et al., "Panoptic Feature Pyramid Networks", CVPR 2019).

    Network, losses and merging are Detectron2's and follow its config. The numbers of classes and
    the ignored label follow the data set, and masks are always on, whatever the config says.

    Args:
        classes: of the set; there is at least one thing.
        channels_last: keep images and weights in channels_last memory order.
        **stock: see :class:`detectron2.modeling.PanopticFPN`.
    """

    @configurable
    def __init__(self, *, classes: ClassSet, channels_last: bool, **stock: Any) -> None:
        super().__init__(**stock)
        self.classes = classes
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Build from ``cfg.MODEL`` and the classes of ``DATASETS.TRAIN``."""
        classes = classes_for(cfg)
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.MASK_ON = True
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(classes.things)
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 1 + len(classes.stuff)
        cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = IGNORE_LABEL
        return {
            **super().from_config(cfg),
            "classes": classes,
            "channels_last": cfg.MODEL.CHANNELS_LAST,
        }

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Losses in training, segments otherwise.

        Args:
            batched_inputs: one dict an image, sizes may differ: ``image`` ``[3, h, w]`` uint8 in
                the order of ``INPUT.FORMAT``; in training ``segment_map``, ``segment_category``,
                ``segment_is_object`` and ``segment_is_crowd``, see :class:`PanopticTruth`;
                otherwise ``height`` and ``width`` of the wanted output, default h and w.

        Returns:
            In training a dict of scalar losses. In inference one dict an image with
            ``panoptic_seg``: ``[height, width]`` int32 segment ids, 0 for nothing, and
            ``segments_info`` with contiguous classes, see :func:`from_merged_ids`; where the
            input's ``want_pixel_probs`` is true also ``pixel_probs``, float32
            ``[1 + stuff, height, width]``, how probable it is that a pixel is of any thing, or of
            each stuff class, and the ``confidence`` of stuff, the mean over a segment's pixels.

        Raises:
            DatasetError: training without panoptic truth.
        """
        if not self.training:
            return self.inference(batched_inputs)
        prepared = [{"image": x["image"], **self._targets(x)} for x in batched_inputs]
        # Where nothing is known the detector would learn that nothing is there.
        told = [x for x in prepared if (x["sem_seg"] != IGNORE_LABEL).any()]
        losses = super().forward(told or prepared)
        if told:
            return losses
        # The mean over no pixel is not a number; its gradient is zero.
        return {name: 0.0 * torch.nan_to_num(loss) for name, loss in losses.items()}

    def inference(self, batched_inputs: list[dict[str, Any]], do_postprocess: bool = True) -> Any:
        """See :meth:`forward`; without ``do_postprocess`` Detectron2's raw outputs."""
        outputs = super().inference(batched_inputs, do_postprocess)
        if not do_postprocess:
            return outputs
        return [
            self._answer(output, x.get("want_pixel_probs", False))
            for output, x in zip(outputs, batched_inputs, strict=True)
        ]

    def _answer(self, output: dict[str, Any], want_pixel_probs: bool) -> dict[str, Any]:
        answer = {"panoptic_seg": from_merged_ids(*output["panoptic_seg"], self.classes)}
        if want_pixel_probs:
            answer["pixel_probs"] = probs = output["sem_seg"].float().softmax(dim=0)
            numbers = {c: n for n, c in enumerate(self.classes.stuff, start=1)}
            add_confidence(answer["panoptic_seg"], probs, numbers)
        return answer

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Detectron2's normalised, padded batch, in this model's memory order."""
        images = super().preprocess_image(batched_inputs)
        images.tensor = images.tensor.contiguous(memory_format=self.memory_format)
        return images

    def _targets(self, sample: dict[str, Any]) -> dict[str, Any]:
        truth = PanopticTruth.of(sample, self.device)
        targets: dict[str, Any] = {"sem_seg": stuff_targets(truth, self.classes)}
        targets["instances"] = detection_targets(truth, self.classes)
        return targets
