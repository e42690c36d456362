"""What the query models share: images in, losses or panoptic segments out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.structures import ImageList
from torch import Tensor, nn

from slotseg.classes import training_classes
from slotseg.heads.panoptic_inference import panoptic_inference
from slotseg.meta_arch.huggingface.network import build_network
from slotseg.meta_arch.huggingface.targets import mask_targets
from slotseg.ops.competition import full_size_chunks

# Class logits [B, Q, C + 1] and mask logits [B, Q, h, w] of one layer.
LayerPrediction = tuple[Tensor, Tensor]


class HFQueryModel(nn.Module):
    """A network whose queries each predict a class, or "no object", and a mask.

    Normalisation, padding, targets and inference are this project's; the network, its losses and
    its matching are the library's.

    Args:
        network: of the `transformers` library, for universal segmentation.
        is_thing: one entry a class, in contiguous order.
        pixel_mean, pixel_std: per channel, in 0..255 and in the order of ``INPUT.FORMAT``.
        object_threshold, overlap_threshold: see :func:`panoptic_inference`.
    """

    # As the library names it.
    model_type: str
    # Images are padded to a multiple of this, in pixels.
    size_divisibility: int

    @configurable
    def __init__(
        self,
        *,
        network: nn.Module,
        is_thing: tuple[bool, ...],
        pixel_mean: list[float],
        pixel_std: list[float],
        object_threshold: float,
        overlap_threshold: float,
    ) -> None:
        super().__init__()
        self.network = network
        self.is_thing = is_thing
        self.object_threshold = object_threshold
        self.overlap_threshold = overlap_threshold
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Build from ``cfg.MODEL.HUGGINGFACE`` and the classes of the first training set.

        Raises:
            ConfigError: see :func:`training_classes` and :func:`build_network`.
        """
        classes = training_classes(cfg)
        options = cfg.MODEL.HUGGINGFACE
        return {
            "network": build_network(cls.model_type, options, classes.names, cfg.DATASETS.TRAIN[0]),
            "is_thing": classes.is_thing,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "object_threshold": options.OBJECT_THRESHOLD,
            "overlap_threshold": options.OVERLAP_THRESHOLD,
        }

    @property
    def device(self) -> torch.device:
        """Where the weights and normalised images live."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Losses in training, segments otherwise.

        Args:
            batched_inputs: one dict an image, sizes may differ: ``image`` ``[3, h, w]`` uint8 in
                the order of ``INPUT.FORMAT``; in training ``segment_map``, ``segment_category``,
                ``segment_is_object`` and ``segment_is_crowd`` of the mapper; otherwise ``height``
                and ``width`` of the wanted output, default h and w.

        Returns:
            In training a dict of weighted scalar losses: ``loss_cross_entropy``, ``loss_mask`` and
            ``loss_dice`` of the last layer, and the sums over the layers before it as
            ``loss_*_auxiliary``. In inference one dict an image with ``panoptic_seg``, see
            :func:`panoptic_inference`, and, where the input's ``want_pixel_probs`` is true,
            ``pixel_probs``, ``[C + 1, height, width]`` float32: the classes of a pixel and "no
            object", which sum to 1, from all queries as far as the pixel is in their masks.

        Raises:
            DatasetError: training without panoptic truth.
        """
        images = self.preprocess(batched_inputs)
        layers = self.predict_layers(images.tensor)
        if self.training:
            return self.compute_losses(layers, batched_inputs, images)
        # As for losses: sums over queries want full precision.
        with torch.autocast(self.device.type, enabled=False):
            return self.segment(layers[-1], batched_inputs, images)

    def predict_layers(self, pixels: Tensor) -> list[LayerPrediction]:
        """Predictions of the network for normalised ``[B, 3, H, W]``, the last layer's last.

        Outside of training only the last one is needed.
        """
        raise NotImplementedError

    def preprocess(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Normalised images, padded with zeros (the mean colour) at the bottom and the right."""
        images = [
            (x["image"].to(self.device) - self.pixel_mean) / self.pixel_std for x in batched_inputs
        ]
        return ImageList.from_tensors(images, self.size_divisibility)

    def compute_losses(
        self,
        layers: list[LayerPrediction],
        batched_inputs: list[dict[str, Any]],
        images: ImageList,
    ) -> dict[str, Tensor]:
        """The library's losses: Hungarian matching per layer, then cross entropy over classes, and
        binary cross entropy and dice over points of the masks, most of them where the prediction
        is least certain (Cheng et al. 2022, section 3.3).

        In float32 also under autocast: the matching has no half precision. Images without any
        segment count as unknown, and pay nothing: asked, all their queries would learn to be no
        object, and a model that learns from its own labels would soon see nothing at all.
        """
        size = tuple(images.tensor.shape[-2:])
        mask_labels, class_labels = zip(
            *(mask_targets(x, size, self.device) for x in batched_inputs), strict=True
        )
        told = [number for number, labels in enumerate(class_labels) if len(labels)]
        asked = told or list(range(len(class_labels)))
        *earlier, (classes, masks) = [(c[asked].float(), m[asked].float()) for c, m in layers]
        with torch.autocast(self.device.type, enabled=False):
            values = self.network.get_loss_dict(
                masks_queries_logits=masks,
                class_queries_logits=classes,
                mask_labels=[mask_labels[number] for number in asked],
                class_labels=[class_labels[number] for number in asked],
                auxiliary_predictions=[
                    {"masks_queries_logits": m, "class_queries_logits": c} for c, m in earlier
                ],
            )
        losses = _sum_layers(values, self.network.weight_dict)
        # Every parameter has its gradient, as other processes expect.
        return losses if told else {name: 0.0 * loss for name, loss in losses.items()}

    def segment(
        self,
        prediction: LayerPrediction,
        batched_inputs: list[dict[str, Any]],
        images: ImageList,
    ) -> list[dict[str, Any]]:
        """Panoptic segments of every image at its wanted size."""
        padded = tuple(images.tensor.shape[-2:])
        outputs = []
        for x, classes, masks, own in zip(
            batched_inputs, *prediction, images.image_sizes, strict=True
        ):
            size = (x.get("height", own[0]), x.get("width", own[1]))
            probs = classes.float().softmax(dim=-1)
            upsample = partial(_masks_at, padded=padded, own=tuple(own), size=size)
            output: dict[str, Any] = {
                "panoptic_seg": panoptic_inference(
                    probs,
                    masks,
                    size,
                    self.is_thing,
                    object_threshold=self.object_threshold,
                    overlap_threshold=self.overlap_threshold,
                    upsample=upsample,
                )
            }
            if x.get("want_pixel_probs", False):
                output["pixel_probs"] = _pixel_probs(probs, masks, size, upsample)
            outputs.append(output)
        return outputs


def _pixel_probs(
    class_probs: Tensor,
    masks: Tensor,
    size: tuple[int, int],
    upsample: Callable[[Tensor], Tensor],
) -> Tensor:
    """``sum_q p(c | query) mask_q / sum_q mask_q``, ``[C + 1, height, width]``."""
    total = class_probs.new_zeros((class_probs.shape[1], *size))
    for start, full in full_size_chunks(masks, size, upsample):
        total += torch.einsum("qc,qhw->chw", class_probs[start : start + len(full)], full)
    return total / total.sum(dim=0).clamp_min(torch.finfo(total.dtype).tiny)


def _masks_at(
    logits: Tensor, padded: tuple[int, int], own: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """Mask logits ``[k, h', w']`` of a padded image as probabilities ``[k, height, width]``.

    Logits are resized, not probabilities, as published: edges stay sharp.
    """
    logits = logits.float().unsqueeze(0)
    if padded != own:
        logits = F.interpolate(logits, padded, mode="bilinear", align_corners=False)
        logits = logits[..., : own[0], : own[1]]
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)[0].sigmoid_()


def _sum_layers(values: dict[str, Tensor], names: dict[str, float]) -> dict[str, Tensor]:
    """``<name>`` of the last layer stays, ``<name>_<layer>`` of the others are summed by name."""
    losses = {name: values[name] for name in names}
    for name in names:
        auxiliary = [value for key, value in values.items() if key.startswith(f"{name}_")]
        if auxiliary:
            losses[f"{name}_auxiliary"] = torch.stack(auxiliary).sum()
    return losses
