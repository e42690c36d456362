"""Supervised masks, and the classes of the slots that are matched by them."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from slotseg.errors import ConfigError, DatasetError
from slotseg.losses.classes import ClassLoss, check_categories
from slotseg.losses.matcher import MaskMatcher
from slotseg.losses.step import TrainingStep


class MaskLoss(nn.Module):
    """Pixel and dice loss between the first decoder's masks and the true segments.

    Slots are matched to segments, the background being one of them, and every matched slot is
    asked for its segment at the resolution of the masks; there each pixel's truth is the share
    that each segment covers, so thin boundaries are not lost. Void pixels count nowhere.

    * ``"ce"``: cross entropy of the softmax over slots, mean over pixels;
    * ``"bce"``: binary cross entropy of every slot, mean over pixels and matched slots;
    * dice (Milletari et al. 2016): ``1 - (2 |p t| + 1) / (|p| + |t| + 1)``, mean over matched
      segments.

    Args:
        pixel_loss: "ce" or "bce".
        pixel_weight, dice_weight: factors of the two losses.
        attention_weight: factor, on top, of the same loss on the grouping's last attention.
        matcher: pairs slots with segments.
        classes: the loss on the classes of the matched slots; None for segments without classes.
    """

    @configurable
    def __init__(
        self,
        *,
        pixel_loss: str,
        pixel_weight: float,
        dice_weight: float,
        attention_weight: float,
        matcher: MaskMatcher,
        classes: ClassLoss | None = None,
    ) -> None:
        super().__init__()
        if pixel_loss not in ("ce", "bce"):
            raise ConfigError(f"LOSSES.MASKS.PIXEL_LOSS: {pixel_loss!r} is unknown; ce or bce")
        self.pixel_loss = pixel_loss
        self.pixel_weight = pixel_weight
        self.dice_weight = dice_weight
        self.attention_weight = attention_weight
        self.matcher = matcher
        self.classes = classes

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``LOSSES.MASKS``."""
        node = cfg.LOSSES.MASKS
        return {
            "pixel_loss": node.PIXEL_LOSS,
            "pixel_weight": node.WEIGHT * node.PIXEL_WEIGHT,
            "dice_weight": node.WEIGHT * node.DICE_WEIGHT,
            "attention_weight": node.ATTENTION_WEIGHT,
            "matcher": MaskMatcher(
                node.MATCH_PIXEL_WEIGHT, node.MATCH_DICE_WEIGHT, node.MATCH_CLASS_WEIGHT
            ),
            "classes": ClassLoss(node.WEIGHT * node.CLASS_WEIGHT, node.NO_OBJECT_WEIGHT)
            if cfg.MODEL.HEAD.NAME
            else None,
        }

    def forward(self, step: TrainingStep) -> dict[str, Tensor]:
        """``loss_mask_pixel`` and ``loss_mask_dice``, scalars; with classes also ``loss_class``;
        with an attention weight also ``loss_attention_pixel`` and ``loss_attention_dice``.
        """
        if step.segment_maps is None:
            raise DatasetError(
                f"{step.file_names[0]}: has no mask, but LOSSES.MASKS.WEIGHT is above 0; train on "
                "a set with masks or set the weight to 0"
            )
        logits = step.decoded[0].mask_logits
        log_masks = logits.float().flatten(2).log_softmax(dim=1)
        truth = coverage(step.segment_maps, logits.shape[-2:]).flatten(2)
        if self.classes is None:
            slot_of = self.matcher(log_masks, truth, step.file_names)
            losses = {}
        else:
            slot_of, loss = self._match_classes(step, log_masks, truth)
            losses = {"loss_class": loss}
        losses["loss_mask_pixel"], losses["loss_mask_dice"] = self.compare(
            log_masks, truth, slot_of
        )
        if self.attention_weight > 0:
            # The softmax of a logarithm of probabilities is those probabilities again.
            attention = step.slots.attention.clamp_min(1e-6).log()
            log_masks = attention.float().flatten(2).log_softmax(dim=1)
            truth = coverage(step.segment_maps, attention.shape[-2:]).flatten(2)
            slot_of = self.matcher(log_masks, truth, step.file_names)
            pixel, dice = self.compare(log_masks, truth, slot_of)
            losses["loss_attention_pixel"] = self.attention_weight * pixel
            losses["loss_attention_dice"] = self.attention_weight * dice
        return losses

    def _match_classes(
        self, step: TrainingStep, log_masks: Tensor, truth: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Slots by segment, matched by class as well, and the loss on their classes."""
        if step.segment_categories is None:
            raise DatasetError(
                f"{step.file_names[0]}: its segments have no classes, but MODEL.HEAD.NAME predicts "
                "some; train on a panoptic set or set it to ''"
            )
        categories = step.segment_categories[:, : truth.shape[1]]
        check_categories(categories, step.class_logits.shape[2] - 1, step.file_names)
        slot_of = self.matcher(log_masks, truth, step.file_names, step.class_logits, categories)
        masks = log_masks.detach().exp()
        known = masks @ truth.sum(dim=1).unsqueeze(2)
        known_share = known.squeeze(2) / masks.sum(dim=2).clamp_min(1e-6)
        return slot_of, self.classes(step.class_logits, slot_of, categories, known_share)

    def compare(self, log_masks: Tensor, truth: Tensor, slot_of: Tensor) -> tuple[Tensor, Tensor]:
        """Compare one set of masks with the segments they are matched to.

        Args:
            log_masks: ``[B, K, P]`` log of the masks, a softmax over K, at P pixels.
            truth: ``[B, S, P]`` shares (:func:`coverage`).
            slot_of: ``[B, S]`` int64, the slot of each segment or -1.

        Returns:
            The weighted pixel and dice loss.
        """
        matched = slot_of >= 0
        # Row s of `chosen` is the log mask of the slot that answers for segment s.
        index = slot_of.clamp_min(0).unsqueeze(2).expand(-1, -1, log_masks.shape[2])
        chosen = log_masks.gather(1, index)
        truth = truth * matched.unsqueeze(2)
        known = truth.sum(dim=1, keepdim=True)
        if self.pixel_loss == "ce":
            pixel = -(chosen * truth).sum() / known.sum().clamp_min(1.0)
        else:
            pixel = _binary_cross_entropy(chosen, truth, known, matched)
        dice = _dice(chosen.exp() * known, truth)[matched].sum() / matched.sum().clamp_min(1)
        return self.pixel_weight * pixel, self.dice_weight * dice


def coverage(segment_maps: Tensor, size: tuple[int, int]) -> Tensor:
    """The share of every coarse pixel that each segment covers.

    Args:
        segment_maps: ``[B, H, W]`` int64, -1 for void.
        size: (h, w) to average to; each pixel counts in one coarse pixel. A map larger than
            (H, W), as decoders can make of images of a few pixels, has void between them.

    Returns:
        ``[B, S, h, w]`` float32 with S = the highest index + 1; sums over S to 1 less the share
        of void.
    """
    batch, height, width = segment_maps.shape
    num_segments = max(int(segment_maps.max()) + 1, 1)
    # Count pixels by (image, segment, coarse pixel) instead of averaging one-hot maps, which
    # would hold S full-size images.
    cells = size[0] * size[1]
    row = torch.arange(height, device=segment_maps.device) * size[0] // height
    column = torch.arange(width, device=segment_maps.device) * size[1] // width
    cell = (row.view(-1, 1) * size[1] + column).expand(batch, -1, -1)
    image = torch.arange(batch, device=segment_maps.device).view(-1, 1, 1)
    index = (image * num_segments + segment_maps) * cells + cell
    counts = torch.bincount(index[segment_maps >= 0], minlength=batch * num_segments * cells)
    area = torch.bincount(cell[0].flatten(), minlength=cells)
    return counts.view(batch, num_segments, *size) / area.clamp_min(1).view(size)


def _binary_cross_entropy(chosen: Tensor, truth: Tensor, known: Tensor, matched: Tensor) -> Tensor:
    # log(1 - p) from log p; the clamp keeps the gradient finite where a slot owns a pixel.
    log_other = torch.log1p(-chosen.exp().clamp_max(1.0 - 1e-6))
    entropy = -(truth * chosen + (known - truth) * log_other)
    pixels = known.sum(dim=2) * matched
    return (entropy * matched.unsqueeze(2)).sum() / pixels.sum().clamp_min(1.0)


def _dice(masks: Tensor, truth: Tensor) -> Tensor:
    """Soft dice error ``[B, S]`` of ``[B, S, P]`` masks."""
    overlap = (masks * truth).sum(dim=2)
    return 1.0 - (2.0 * overlap + 1.0) / (masks.sum(dim=2) + truth.sum(dim=2) + 1.0)
