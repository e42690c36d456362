"""The model: the only place where the rooms meet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from slotseg.decoders import build_decoders, decode_iterations
from slotseg.errors import ConfigError, DatasetError
from slotseg.heads import build_head
from slotseg.losses import Prediction, Seen, TrainingStep, build_losses, build_weighting
from slotseg.losses.mask_kinds import log_shares, pixel_classes
from slotseg.meta_arch.images import stack_images
from slotseg.meta_arch.truth import paint
from slotseg.ops.competition import compete
from slotseg.ops.mask_nms import distinct_slots
from slotseg.slots import (
    InitialSlots,
    PixelTokens,
    SlotState,
    build_slot_grouping,
    build_slot_initializer,
)


@META_ARCH_REGISTRY.register()
class SlotSeg(nn.Module):
    """Image -> backbone -> slots -> decoders and head -> losses, or segments.

    Args:
        backbone: pixels to feature maps.
        in_feature: name of the map whose pixels the slots compete for.
        tokens: that map to a sequence of tokens.
        initializer: tokens to initial slots.
        grouping: tokens and initial slots to slots.
        decoders: slots to masks, features and images; the first one's masks are the prediction.
        head: slots to classes; None for segments without classes.
        losses: training signals by name.
        weighting: how much each of their scalars counts.
        pixel_mean, pixel_std: per channel, in 0..255 and in the order of ``INPUT.FORMAT``.
        mask_nms_iou: largest overlap of two slots' claims in inference; 1 keeps all slots.
        channels_last: keep images in channels_last memory order.
        independent_masks: each mask is a sigmoid; otherwise a softmax over slots.
    """

    # For data and reports, which know a model by its name only: slotseg.config.has_slots.
    has_slots = True

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        in_feature: str,
        tokens: nn.Module,
        initializer: nn.Module,
        grouping: nn.Module,
        decoders: nn.ModuleList,
        head: nn.Module | None,
        losses: nn.ModuleDict,
        weighting: nn.Module,
        pixel_mean: list[float],
        pixel_std: list[float],
        mask_nms_iou: float,
        channels_last: bool,
        independent_masks: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.in_feature = in_feature
        self.tokens = tokens
        self.initializer = initializer
        self.grouping = grouping
        self.decoders = decoders
        self.head = head
        self.losses = losses
        self.weighting = weighting
        # Without an order of their own, views would be computed in another one in every process.
        self.views = sorted(
            {view for loss in losses.values() for view in getattr(loss, "views", ())}
        )
        self.needs_earlier = any(getattr(loss, "needs_earlier", False) for loss in losses.values())
        self.mask_nms_iou = mask_nms_iou
        self.independent_masks = independent_masks
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Build every room from ``cfg.MODEL`` and ``cfg.LOSSES``."""
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        in_feature = cfg.MODEL.SLOTS.IN_FEATURE
        if in_feature not in shapes:
            raise ConfigError(
                f"MODEL.SLOTS.IN_FEATURE: the backbone has no output {in_feature!r}; choose from "
                f"{', '.join(shapes)}"
            )
        decoders = build_decoders(cfg, shapes)
        losses = build_losses(cfg, decoders)
        return {
            "backbone": backbone,
            "in_feature": in_feature,
            "tokens": PixelTokens(cfg, shapes[in_feature].channels),
            "initializer": build_slot_initializer(cfg, shapes),
            "grouping": build_slot_grouping(cfg),
            "decoders": decoders,
            "head": build_head(cfg),
            "losses": losses,
            "weighting": build_weighting(cfg, losses),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "mask_nms_iou": cfg.TEST.MASK_NMS_IOU,
            "channels_last": cfg.MODEL.CHANNELS_LAST,
            "independent_masks": cfg.MODEL.MASK_ACTIVATION == "sigmoid",
        }

    @property
    def device(self) -> torch.device:
        """Where the weights and normalised images live."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Losses in training, segments otherwise.

        Args:
            batched_inputs: one dict an image, all of one size:

                * ``image``: ``[3, H, W]`` uint8 in the order of ``INPUT.FORMAT``;
                * ``segment_map``: ``[H, W]`` int64, the true segment of every pixel, -1 for void
                  (training with masks only);
                * ``segment_category``: ``[S]`` int64, the contiguous class of each segment, and
                  ``segment_is_crowd``: ``[S]`` bool (training with classes only; crowd is void);
                * ``segment_confidence``: ``[S]`` float32 in 0..1, how far each segment is to be
                  believed (training only, default 1);
                * ``height``, ``width``: size of the wanted output, default (H, W);
                * ``cached_features``: maps of a frozen backbone by name, ``[C, h, w]`` float16, as
                  the loader adds them with ``MODEL.VIT.CACHE``;
                * ``want_pixel_probs``: bool, whether the result should tell what every pixel is
                  (inference only, default False);
                * ``file_name``: for messages.

        Returns:
            In training a dict of weighted scalar losses. In inference one dict an image:

            * ``panoptic_seg``: ``[height, width]`` int32 segment ids, 0 for nothing, and
              ``segments_info``, a list of dicts with ``id``, ``category_id``, ``isthing`` and
              ``area`` in pixels and ``confidence`` in 0..1. Without a head every pixel goes to the
              slot with the highest mask there, duplicates left out, and every slot is a segment,
              with ``id`` = slot + 1, ``category_id`` 0, ``slot``, and the mean of its mask as
              confidence; with one see :func:`slotseg.heads.panoptic_inference`;
            * with a head, if ``MODEL.HEAD.OUTPUTS`` names them: ``sem_seg``, ``[C, height, width]``
              float32, and ``instances``, Detectron2's;
            * on request ``pixel_probs``: float32 at the resolution of the masks, how probable every
              pixel's classes and "no object" are, ``[C + 1, h, w]``, or without a head its slots,
              ``[K, h, w]``; they sum to 1;
            * ``slots``: ``[K, D]`` float32;
            * ``slot_masks``: ``[K, h, w]`` float32 in 0..1, of the first decoder: a softmax over K,
              or with ``MODEL.MASK_ACTIVATION`` "sigmoid" independent of each other;
            * ``attention``: ``[K, h', w']`` float32, softmax over K, of the last iteration;
            * ``initial_slots``: ``[M, D]`` float32, where the slots started (M = K but for a
              two-level grouping), and ``seeded_slots``, how many of them come from this image, for
              initialisers that look at images;
            * ``parent_attention``: ``[M, h', w']`` float32, softmax over M, and ``parent_of``:
              ``[K]`` int64, the parent of every slot, of a two-level grouping;
            * ``reconstruction``: ``[3, H, W]`` float32 in 0..255, of the last decoder that makes
              one, if any does.

        Raises:
            DatasetError: images of different sizes, or only some of them with masks.
        """
        images = self.preprocess(batched_inputs)
        cached = _stack_cached_features(batched_inputs, self.device)
        seen = self.look(images, cached, earlier=self.training and self.needs_earlier)
        if self.training:
            return self.compute_losses(batched_inputs, seen)
        # Sums over slots decide at every pixel; half precision would make ties of them.
        with torch.autocast(self.device.type, enabled=False):
            return self.segment(batched_inputs, seen)

    def look(
        self, images: Tensor, cached: dict[str, Tensor] | None = None, *, earlier: bool = False
    ) -> Seen:
        """Take normalised images ``[B, 3, H, W]`` through the rooms, one after the other.

        Args:
            images: of :meth:`preprocess`.
            cached: maps of a frozen backbone, which then does not run.
            earlier: also decode the slots after every earlier iteration.
        """
        features = self.backbone(images) if cached is None else self.backbone(images, cached)
        tokens = self.tokens(features[self.in_feature])
        initial = self.initializer(tokens, features, images)
        slots = _with_places(self.grouping(tokens, initial.slots), initial)
        first, *others = self.decoders
        if earlier:
            decoded, masks = decode_iterations(first, slots, features, images)
        else:
            decoded, masks = first(slots, features, images), ()
        return Seen(
            images=images,
            features=features,
            initial=initial,
            slots=slots,
            decoded=[decoded, *(decoder(slots, features, images) for decoder in others)],
            class_logits=self._classify(slots),
            earlier=tuple(
                Prediction(
                    mask_logits, self._classify(replace(slots, slots=before)), decoded.lattice
                )
                for before, mask_logits in zip(slots.earlier[: len(masks)], masks, strict=True)
            ),
        )

    def _classify(self, slots: SlotState) -> Tensor | None:
        return None if self.head is None else self.head(slots)

    def preprocess(self, batched_inputs: list[dict[str, Any]]) -> Tensor:
        """Images as one normalised batch ``[B, 3, H, W]`` on the model's device.

        For backbones that ask for sides divisible by some number they are stretched to the next
        such size, so that maps and masks still cover exactly the image.
        """
        batch = stack_images(batched_inputs).to(self.device)
        batch = (batch - self.pixel_mean) / self.pixel_std
        divisor = max(self.backbone.size_divisibility, 1)
        size = [-(-side // divisor) * divisor for side in batch.shape[-2:]]
        if size != list(batch.shape[-2:]):
            batch = F.interpolate(batch, size, mode="bilinear", align_corners=False)
        return batch.contiguous(memory_format=self.memory_format)

    def compute_losses(self, batched_inputs: list[dict[str, Any]], seen: Seen) -> dict[str, Tensor]:
        """Weighted scalar losses by name, in float32 also under autocast."""
        divisor = max(self.backbone.size_divisibility, 1)
        step = TrainingStep(
            **vars(seen),
            segment_maps=_stack_segment_maps(batched_inputs, self.device),
            file_names=tuple(x.get("file_name", "an image") for x in batched_inputs),
            segment_categories=_stack_categories(batched_inputs, self.device),
            segment_confidence=_stack_confidence(batched_inputs, self.device),
            views={spec: self.look(spec.images(seen.images, divisor)) for spec in self.views},
        )
        with torch.autocast(self.device.type, enabled=False):
            losses = {
                name: value for loss in self.losses.values() for name, value in loss(step).items()
            }
            return self.weighting(losses, learn=step.segment_confidence is None)

    def segment(self, batched_inputs: list[dict[str, Any]], seen: Seen) -> list[dict[str, Any]]:
        """One dict an image, see :meth:`forward`."""
        logits = seen.decoded[0].mask_logits
        masks = logits.sigmoid() if self.independent_masks else logits.softmax(dim=1)
        sizes = [
            (x.get("height", x["image"].shape[1]), x.get("width", x["image"].shape[2]))
            for x in batched_inputs
        ]
        outputs = [
            {
                **(
                    {"panoptic_seg": _segments(masks[i], self._kept_slots(masks[i]), size)}
                    if seen.class_logits is None
                    else self.head.infer(seen.class_logits[i], masks[i], size)
                ),
                "slot_masks": masks[i],
                **_slot_outputs(seen, i),
            }
            for i, size in enumerate(sizes)
        ]
        for i, x in enumerate(batched_inputs):
            if x.get("want_pixel_probs", False):
                outputs[i]["pixel_probs"] = self._pixel_probs(seen.prediction, i)
        made = [d.reconstruction for d in seen.decoded if d.reconstruction is not None]
        if made:
            size = batched_inputs[0]["image"].shape[-2:]
            drawn = F.interpolate(made[-1], size, mode="bilinear", align_corners=False)
            drawn = (drawn * self.pixel_std + self.pixel_mean).clamp(0.0, 255.0)
            for output, image in zip(outputs, drawn, strict=True):
                output["reconstruction"] = image
        return outputs

    def _pixel_probs(self, prediction: Prediction, image: int) -> Tensor:
        masks = prediction.mask_logits[image : image + 1]
        if prediction.class_logits is None:
            return log_shares(masks, self.independent_masks).exp()[0]
        classes = prediction.class_logits[image : image + 1]
        return pixel_classes(masks, classes, self.independent_masks)[0]

    def _kept_slots(self, masks: Tensor) -> Tensor:
        if self.mask_nms_iou < 1.0:
            return distinct_slots(masks, self.mask_nms_iou)
        return torch.arange(masks.shape[0], device=masks.device)


def _with_places(slots: SlotState, initial: InitialSlots) -> SlotState:
    """The slots, which know where they started; sub-slots where their parent did."""
    if initial.places is None:
        return slots
    sub_slots = slots.slots.shape[1] // initial.places.shape[1]
    return replace(slots, places=initial.places.repeat_interleave(sub_slots, dim=1))


def _slot_outputs(seen: Seen, image: int) -> dict[str, Any]:
    """What an image's slots are, where they looked and where they started."""
    outputs: dict[str, Any] = {
        "slots": seen.slots.slots[image].float(),
        "attention": seen.slots.attention[image].float(),
        "initial_slots": seen.initial.slots[image].float(),
    }
    if seen.initial.seeded is not None:
        outputs["seeded_slots"] = int(seen.initial.seeded[image])
    if seen.slots.parents is not None:
        outputs["parent_attention"] = seen.slots.parents.attention[image].float()
        outputs["parent_of"] = seen.slots.parents.of
    return outputs


def _segments(
    masks: Tensor, kept: Tensor, size: tuple[int, int]
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Every pixel to the ``kept`` slot with the highest mask ``[K, h, w]`` there.

    Returns:
        Ids ``[height, width]`` int32 and the segments.
    """
    found = compete(masks[kept], size)
    winner = kept[found.winner]
    areas = torch.bincount(found.winner.flatten(), minlength=len(kept))
    segments_info = [
        {
            "id": slot + 1,
            "category_id": 0,
            "isthing": True,
            "area": area,
            "slot": slot,
            "confidence": confidence,
        }
        for slot, area, confidence in zip(
            kept.tolist(), areas.tolist(), found.mean_strength().tolist(), strict=True
        )
        if area > 0
    ]
    return (winner + 1).to(torch.int32), segments_info


def _stack_cached_features(
    batched_inputs: list[dict[str, Any]], device: torch.device
) -> dict[str, Tensor] | None:
    if "cached_features" not in batched_inputs[0]:
        return None
    cached = [x["cached_features"] for x in batched_inputs]
    # Autocast to bfloat16 stacks no float16.
    return {
        name: torch.stack([maps[name].to(device).float() for maps in cached]) for name in cached[0]
    }


def _stack_segment_maps(
    batched_inputs: list[dict[str, Any]], device: torch.device
) -> Tensor | None:
    with_masks = [x for x in batched_inputs if "segment_map" in x]
    if not with_masks:
        return None
    if len(with_masks) < len(batched_inputs):
        without = next(x for x in batched_inputs if "segment_map" not in x)
        raise DatasetError(
            f"{without.get('file_name', 'an image')}: has no mask while others of its batch have; "
            "do not mix sets with and without masks in DATASETS.TRAIN"
        )
    return torch.stack([_without_crowd(x) for x in with_masks]).to(device)


def _without_crowd(x: dict[str, Any]) -> Tensor:
    """The segment map with crowd as void: nobody knows its instances."""
    segment_map, is_crowd = x["segment_map"], x.get("segment_is_crowd")
    if is_crowd is None or not is_crowd.any():
        return segment_map
    return paint(segment_map, torch.arange(len(is_crowd)).masked_fill(is_crowd, -1), void=-1)


def _stack_confidence(batched_inputs: list[dict[str, Any]], device: torch.device) -> Tensor | None:
    """``[B, S]`` float32, 1 for images that say nothing and beyond an image's segments; None if
    none says anything.
    """
    if not any("segment_confidence" in x for x in batched_inputs):
        return None
    told = [x.get("segment_confidence", torch.ones(0)) for x in batched_inputs]
    listed = [
        len(x.get("segment_category", x.get("segment_is_object", ()))) for x in batched_inputs
    ]
    longest = max(1, *listed, *map(len, told))
    padded = [F.pad(x.float(), (0, longest - len(x)), value=1.0) for x in told]
    return torch.stack(padded).to(device)


def _stack_categories(batched_inputs: list[dict[str, Any]], device: torch.device) -> Tensor | None:
    """``[B, S]`` int64 with S of the image that has most segments, at least 1; -1 elsewhere."""
    if not all("segment_category" in x for x in batched_inputs):
        return None
    padded = pad_sequence(
        [x["segment_category"] for x in batched_inputs], batch_first=True, padding_value=-1
    )
    return F.pad(padded, (0, max(0, 1 - padded.shape[1])), value=-1).to(device)
