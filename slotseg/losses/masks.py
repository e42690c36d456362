"""Supervised masks, and the classes of the slots that are matched by them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from slotseg.classes import training_classes
from slotseg.config import slots_have_places
from slotseg.errors import ConfigError, DatasetError
from slotseg.losses.classes import ClassLoss, check_categories
from slotseg.losses.coverage import coverage, coverage_of, segment_areas
from slotseg.losses.mask_kinds import are_independent
from slotseg.losses.mask_terms import MaskPairs, MaskSamples
from slotseg.losses.matcher import MaskMatcher
from slotseg.losses.points import PointSampler, read_maps, read_one_segment, read_segments
from slotseg.losses.step import Prediction, TrainingStep
from slotseg.losses.things import allowed_by_place, is_thing_segment


class MaskLoss(nn.Module):
    """Pixel and dice loss between the first decoder's masks and the true segments.

    Slots are matched to segments, the background being one of them, and every matched slot is
    asked for its segment, either at the resolution of the masks, where each pixel's truth is the
    share that each segment covers, so that thin boundaries are not lost; or at sampled points,
    where masks and truth are read bilinearly, the truth from its full size. Void counts nowhere.

    * ``"ce"``: cross entropy of the softmax over slots, mean over pixels;
    * ``"bce"``: binary cross entropy of every matched slot, mean over pixels and matched slots;
    * dice (Milletari et al. 2016): ``1 - (2 |p t| + 1) / (|p| + |t| + 1)``, mean over matched
      segments.

    A slot that starts at a place (:class:`~slotseg.slots.PeakInitializer`) answers for the thing at
    that place or for none, and the other slots for stuff (:func:`allowed_by_place`): what a slot is
    about does not depend on masks that nobody has learnt yet.

    Where segments come with a confidence (``TrainingStep.segment_confidence``), the matching does
    not look at it, and what the matched pairs pay is multiplied by it.

    With "bce", dice, independent masks and points this is the set criterion of Mask2Former (Cheng
    et al. 2022). Slots are matched at uniform points, the same for all slots of an image, and the
    loss is taken at points where the prediction is unsure: of an independent mask where it is near
    1/2, each matched slot having points of its own; of masks that share out every pixel where the
    two largest are near each other, because there what one slot gains another loses.

    Args:
        pixel_loss: "ce" or "bce"; independent masks know only "bce".
        pixel_weight, dice_weight: factors of the two losses.
        attention_weight: factor, on top, of the same loss on the grouping's last attention, whose
            pixels are shared out and always compared at its full (coarse) resolution.
        matcher: pairs slots with segments.
        classes: the loss on the classes of the matched slots; None for segments without classes.
        independent: each mask is a sigmoid; otherwise a softmax over slots shares out every pixel.
        auxiliary_weight: factor of the same losses, classes included, on what the slots mean after
            each earlier iteration, matched anew; 0: off.
        points: how points are drawn; None: every pixel of the masks.
        is_thing: of each class, for slots that start at a place.
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
        independent: bool = False,
        auxiliary_weight: float = 0.0,
        points: PointSampler | None = None,
        is_thing: Sequence[bool] = (),
    ) -> None:
        super().__init__()
        if pixel_loss not in ("ce", "bce"):
            raise ConfigError(f"LOSSES.MASKS.PIXEL_LOSS: {pixel_loss!r} is unknown; ce or bce")
        if independent and pixel_loss == "ce":
            raise ConfigError(
                "LOSSES.MASKS.PIXEL_LOSS is 'ce', a softmax over slots, but "
                "MODEL.MASK_ACTIVATION is 'sigmoid'; choose 'bce'"
            )
        self.pixel_loss = pixel_loss
        self.pixel_weight = pixel_weight
        self.dice_weight = dice_weight
        self.attention_weight = attention_weight
        self.matcher = matcher
        self.classes = classes
        self.independent = independent
        self.auxiliary_weight = auxiliary_weight
        self.points = points
        self.is_thing = tuple(is_thing)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``LOSSES.MASKS`` and ``MODEL.MASK_ACTIVATION``."""
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
            "independent": are_independent(cfg),
            "auxiliary_weight": node.AUXILIARY_WEIGHT,
            "points": PointSampler(node.POINTS, node.POINTS_OVERSAMPLE, node.POINTS_IMPORTANCE)
            if node.POINTS
            else None,
            "is_thing": training_classes(cfg).is_thing if slots_have_places(cfg) else (),
        }

    @property
    def needs_earlier(self) -> bool:
        """Whether the predictions after earlier iterations are asked for (``Seen.earlier``)."""
        return self.auxiliary_weight > 0

    def forward(self, step: TrainingStep) -> dict[str, Tensor]:
        """``loss_mask_pixel`` and ``loss_mask_dice``, scalars; with classes also ``loss_class``;
        with an auxiliary weight the same with ``auxiliary`` in their names, sums over the earlier
        iterations; with an attention weight ``loss_attention_pixel`` and ``loss_attention_dice``.
        """
        if step.segment_maps is None:
            raise DatasetError(
                f"{step.file_names[0]}: has no mask, but LOSSES.MASKS.WEIGHT is above 0; train on "
                "a set with masks or set the weight to 0"
            )
        losses = self.judge(step.prediction, step)
        if self.auxiliary_weight > 0:
            earlier = [self.judge(prediction, step) for prediction in step.earlier]
            losses |= {
                name.replace("loss_", "loss_auxiliary_"): self.auxiliary_weight
                * sum(judged[name] for judged in earlier)
                for name in losses
                if earlier
            }
        if self.attention_weight > 0:
            # The softmax of a logarithm of probabilities is those probabilities again.
            logits = step.slots.attention.clamp_min(1e-6).log().float()
            truth = coverage(step.segment_maps, logits.shape[-2:])
            samples = MaskSamples.of(logits.flatten(2), truth.flatten(2), independent=False)
            slot_of = self.matcher(
                samples.log_masks,
                samples.truth,
                step.file_names,
                allowed=self._allowed(step, samples.truth.shape[1]),
            )
            pixel, dice = self._compare(samples.pairs(slot_of, step.segment_confidence))
            losses["loss_attention_pixel"] = self.attention_weight * pixel
            losses["loss_attention_dice"] = self.attention_weight * dice
        return losses

    def judge(self, prediction: Prediction, step: TrainingStep) -> dict[str, Tensor]:
        """The weighted losses of one prediction, after a matching of its own."""
        logits = prediction.mask_logits.float()
        samples = self._samples_to_match(prediction, step.segment_maps)
        logits_of_class = categories = None
        if self.classes is not None:
            logits_of_class = prediction.class_logits
            categories = _categories(prediction, step)[:, : samples.truth.shape[1]]
        slot_of = self.matcher(
            samples.log_masks,
            samples.truth,
            step.file_names,
            logits_of_class,
            categories,
            log_others=samples.log_others,
            # Points can miss a small segment, which still wants its slot.
            present=segment_areas(step.segment_maps) > 0,
            allowed=self._allowed(step, samples.truth.shape[1]),
        )
        losses = {}
        if self.classes is not None:
            known = _known_share(samples)
            losses["loss_class"] = self.classes(
                logits_of_class, slot_of, categories, known, step.segment_confidence
            )
        pairs = self._pairs(logits, step, samples, slot_of)
        losses["loss_mask_pixel"], losses["loss_mask_dice"] = self._compare(pairs)
        return losses

    def _allowed(self, step: TrainingStep, num_segments: int) -> Tensor | None:
        """``[B, K, S]``: which slots may answer for which segments; None: all for all."""
        if step.slots.places is None:
            return None
        is_thing = is_thing_segment(step.segment_categories[:, :num_segments], self.is_thing)
        grid = tuple(step.initial.guess.objectness.shape[-2:])
        return allowed_by_place(step.segment_maps, is_thing, step.slots.places, grid)

    def _samples_to_match(self, prediction: Prediction, segment_maps: Tensor) -> MaskSamples:
        logits = prediction.mask_logits.float()
        if self.points is None:
            truth = coverage_of(segment_maps, prediction)
            return MaskSamples.of(logits.flatten(2), truth.flatten(2), self.independent)
        if prediction.lattice is not None:
            raise ConfigError(
                "LOSSES.MASKS.POINTS is above 0 and so reads whole masks, but "
                "MODEL.MASK_PRODUCT.TRAIN_STEP leaves pixels out; set it to 1, or POINTS to 0"
            )
        points = self.points.random(len(logits), logits.device)
        return _at_points(logits.detach(), segment_maps, points, self.independent)

    def _pairs(
        self, logits: Tensor, step: TrainingStep, samples: MaskSamples, slot_of: Tensor
    ) -> MaskPairs:
        """Matched slots and segments at the pixels or points of the loss."""
        confidence = step.segment_confidence
        if self.points is None:
            return samples.pairs(slot_of, confidence)
        if self.independent:
            return _pairs_at_unsure_points(logits, step, slot_of, self.points)
        points = self.points.unsure(
            len(logits), logits.device, lambda x: _lead(logits, step.segment_maps, x)
        )
        samples = _at_points(logits, step.segment_maps, points, independent=False)
        return samples.pairs(slot_of, confidence)

    def _compare(self, pairs: MaskPairs) -> tuple[Tensor, Tensor]:
        pixel = pairs.cross_entropy() if self.pixel_loss == "ce" else pairs.binary_cross_entropy()
        return self.pixel_weight * pixel, self.dice_weight * pairs.dice()


def _categories(prediction: Prediction, step: TrainingStep) -> Tensor:
    if step.segment_categories is None:
        raise DatasetError(
            f"{step.file_names[0]}: its segments have no classes, but MODEL.HEAD.NAME predicts "
            "some; train on a panoptic set or set it to ''"
        )
    check_categories(step.segment_categories, prediction.class_logits.shape[2] - 1, step.file_names)
    return step.segment_categories


def _known_share(samples: MaskSamples) -> Tensor:
    """``[B, K]``, the share of each mask that lies where there is a truth."""
    masks = samples.log_masks.detach().exp()
    known = masks @ samples.truth.sum(dim=1).unsqueeze(2)
    return known.squeeze(2) / masks.sum(dim=2).clamp_min(1e-6)


def _at_points(
    logits: Tensor, segment_maps: Tensor, points: Tensor, independent: bool
) -> MaskSamples:
    """At points ``[B, P, 2]``, the same for all slots of an image."""
    return MaskSamples.of(
        read_maps(logits, points), read_segments(segment_maps, points), independent
    )


def _lead(logits: Tensor, segment_maps: Tensor, points: Tensor) -> Tensor:
    """``[B, P]``: how far the strongest slot leads the second there; infinite in void."""
    strongest = read_maps(logits.detach(), points).topk(min(2, logits.shape[1]), dim=1).values
    lead = strongest[:, 0] - strongest[:, -1]
    known = read_segments(segment_maps.clamp_max(0), points).sum(dim=1)
    return lead.masked_fill(known == 0, torch.inf)


def _pairs_at_unsure_points(
    logits: Tensor, step: TrainingStep, slot_of: Tensor, sampler: PointSampler
) -> MaskPairs:
    """Every matched slot at points where its own independent mask is near 1/2."""
    segment_maps, confidence = step.segment_maps, step.segment_confidence
    image, segment = (slot_of >= 0).nonzero(as_tuple=True)
    chosen = logits[image, slot_of[image, segment]].unsqueeze(1)

    def certainty(points: Tensor) -> Tensor:
        _, known = read_one_segment(segment_maps, image, segment, points)
        sure = read_maps(chosen.detach(), points).squeeze(1).abs()
        return sure.masked_fill(known == 0, torch.inf)

    points = sampler.unsure(len(image), logits.device, certainty)
    read = read_maps(chosen, points)
    truth, known = read_one_segment(segment_maps, image, segment, points)
    samples = MaskSamples.of(read, truth.unsqueeze(1), independent=True)
    return MaskPairs(
        samples.log_masks[:, 0],
        samples.log_others[:, 0],
        truth,
        known,
        None if confidence is None else confidence[image, segment],
    )
