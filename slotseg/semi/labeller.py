"""A teacher's predictions as the student's truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable

from slotseg.classes import training_classes
from slotseg.config import has_slots
from slotseg.errors import ConfigError
from slotseg.losses.training_log import log_scalar, training_iteration
from slotseg.semi.collapse import CollapseWatch
from slotseg.semi.filtering import LabelFilter, TrustedSegments
from slotseg.semi.ramp import RampUp
from slotseg.semi.samples import panoptic_sample, scene_sample
from slotseg.semi.tally import LabelTally
from slotseg.semi.uncertainty import PixelUncertainty

Teacher = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]

# The losses of SlotSeg that look at labels.
_LEARNING_FROM_LABELS = ("MASKS", "OBJECTNESS", "CLASS_MAP", "UNCERTAINTY")


class PseudoLabeller:
    """Lets a teacher look at weak views, and makes panoptic truth for the strong views of it.

    A prediction's segments are kept if the teacher is confident of them, their pixels if it is
    sure of their class (:class:`LabelFilter`, :class:`PixelUncertainty`); all others are void,
    of which no loss asks anything. What is left is carried onto the student's view by the
    relation of the two views, to the pixel.

    TensorBoard shows (``pseudo/*``) the weight of the losses; of the step's images the ``kept``
    share of all pixels, the share that is too ``uncertain``, the ``segments`` an image and their
    mean ``confidence``; and over the last images (:class:`LabelTally`) which share of the pixels
    that the teacher gives to a class is kept, ``kept_<class>``. A warning says so if nothing is
    kept, or if one class takes all (:class:`CollapseWatch`). With several processes these are
    counts of the first one's images.

    Args:
        filters: the thresholds.
        uncertainty: how sure the teacher is of every pixel.
        schedule: :meth:`weight`.
        names: of the classes; empty for models without classes.
        is_thing: of each class.
        weight_by_confidence: segments count as far as the teacher is confident; otherwise fully.

    Raises:
        ConfigError: a model or losses that cannot learn from pseudo labels.
    """

    @configurable
    def __init__(
        self,
        *,
        filters: LabelFilter,
        uncertainty: PixelUncertainty,
        schedule: RampUp,
        names: Sequence[str] = (),
        is_thing: Sequence[bool] = (),
        weight_by_confidence: bool = True,
    ) -> None:
        self.filters = filters
        self.uncertainty = uncertainty
        self.schedule = schedule
        self.names = tuple(names)
        self.is_thing = tuple(is_thing)
        self.weight_by_confidence = weight_by_confidence
        self.tally = LabelTally(max(len(self.names), 1))
        self.watch = CollapseWatch(self.names)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read ``PSEUDO_LABELS`` and ``SEMI``; ``PseudoLabeller(cfg)`` calls it."""
        node = cfg.PSEUDO_LABELS
        slots = has_slots(cfg.MODEL.META_ARCHITECTURE)
        if slots:
            _check_model(cfg)
        classes = None if slots and not cfg.MODEL.HEAD.NAME else training_classes(cfg)
        return {
            "filters": LabelFilter(
                min_confidence_things=node.MIN_CONFIDENCE_THINGS,
                min_confidence_stuff=node.MIN_CONFIDENCE_STUFF,
                max_uncertainty=node.MAX_UNCERTAINTY,
                min_area=node.MIN_AREA,
                min_kept_share=node.MIN_KEPT_SHARE,
            ),
            "uncertainty": PixelUncertainty(node.UNCERTAINTY, of_slots=classes is None),
            "schedule": RampUp(cfg.SEMI.WEIGHT, cfg.SEMI.START, cfg.SEMI.RAMP),
            "names": () if classes is None else classes.names,
            "is_thing": () if classes is None else classes.is_thing,
            "weight_by_confidence": node.WEIGHT_BY_CONFIDENCE,
        }

    def weight(self, iteration: int) -> float:
        """Factor of the losses on pseudo-labelled images; 0 where none are to be made."""
        return self.schedule(iteration)

    @torch.no_grad()
    def __call__(
        self,
        teacher: Teacher,
        unlabeled: Sequence[dict[str, Any]],
        labeled: Iterable[Mapping[str, Any]] = (),
    ) -> list[dict[str, Any]]:
        """Make pseudo labels.

        Args:
            teacher: a model in evaluation mode. The caller sees to autocast and to its generator.
            unlabeled: dicts with ``image`` uint8 ``[3, H, W]``, the student's view;
                ``weak_image`` uint8 ``[3, h, w]``, the teacher's; ``view``, their
                :class:`~slotseg.data.views.ViewRelation`; ``file_name``, ``image_id``, ``height``
                and ``width``.
            labeled: the labelled images of the iteration, whose classes are counted to know what
                is usual.

        Returns:
            One dict an image with the student's view and, on the CPU, the keys of a labelled one:
            ``segment_map`` int64 ``[H, W]``, -1 where nothing is known, and of its S segments, all
            of which are in the map, ``segment_confidence`` float32 ``[S]`` in 0..1,
            ``segment_is_object`` bool, and with classes ``segment_category`` int64 and
            ``segment_is_crowd``, which none is. Without classes the segments are those of a scene,
            see :func:`scene_sample`.

        Raises:
            ConfigError: the teacher gives no segments, or nothing that tells how sure it is.
        """
        trusted = self.judge(teacher, unlabeled)
        samples = [
            self._sample(item, found) for item, found in zip(unlabeled, trusted, strict=True)
        ]
        self.tally.add_labeled(labeled)
        self._log(unlabeled, trusted, samples)
        return samples

    def judge(self, teacher: Teacher, unlabeled: Sequence[dict[str, Any]]) -> list[TrustedSegments]:
        """What is kept of each image, in the teacher's view."""
        outputs: list[Any] = [None] * len(unlabeled)
        for numbers in _by_size(unlabeled):
            inputs = [_teacher_input(unlabeled[number]) for number in numbers]
            found, uncertainty = self.uncertainty.predict(teacher, inputs)
            for number, output, unsure in zip(numbers, found, uncertainty, strict=True):
                if "panoptic_seg" not in output:
                    raise ConfigError(
                        "MEAN_TEACHER: the model gives no panoptic_seg, of which pseudo labels are "
                        "made; choose another MODEL.META_ARCHITECTURE"
                    )
                outputs[number] = self.filters(*output["panoptic_seg"], unsure)
        return outputs

    def state_dict(self) -> dict[str, Any]:
        """Counts that the log and the warnings go by."""
        return {"tally": self.tally.state_dict(), "last_said": self.watch.last_said}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The counterpart of :meth:`state_dict`."""
        self.tally.load_state_dict(state["tally"])
        self.watch.last_said = state["last_said"]

    def _sample(self, item: Mapping[str, Any], found: TrustedSegments) -> dict[str, Any]:
        sample = (panoptic_sample if self.names else scene_sample)(item, found)
        if not self.weight_by_confidence:
            sample["segment_confidence"].fill_(1.0)
        return sample

    def _log(
        self,
        items: Sequence[Mapping[str, Any]],
        trusted: list[TrustedSegments],
        samples: list[dict[str, Any]],
    ) -> None:
        counts = [
            self.tally.add(found, item["view"].content)
            for item, found in zip(items, trusted, strict=True)
        ]
        if not counts:
            return
        pixels, kept, uncertain = (float(sum(values)) for values in zip(*counts, strict=True))
        confidence = torch.cat([sample["segment_confidence"] for sample in samples])
        log_scalar("pseudo/weight", self.weight(training_iteration() or 0))
        log_scalar("pseudo/kept", kept / max(pixels, 1.0))
        log_scalar("pseudo/uncertain", uncertain / max(pixels, 1.0))
        log_scalar("pseudo/segments", len(confidence) / len(samples))
        if len(confidence):
            log_scalar("pseudo/confidence", float(confidence.mean()))
        for number, share in self.tally.kept_by_class().items():
            if self.names:
                log_scalar(f"pseudo/kept_{self.names[number]}", share)
        self.watch.look(self.tally)


def _by_size(unlabeled: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Numbers of the images whose weak views have one size: models take equal ones at once."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, item in enumerate(unlabeled):
        groups.setdefault(tuple(item["weak_image"].shape), []).append(number)
    return list(groups.values())


def _teacher_input(item: Mapping[str, Any]) -> dict[str, Any]:
    height, width = item["weak_image"].shape[1:]
    return {
        "image": item["weak_image"],
        "height": height,
        "width": width,
        "file_name": item["file_name"],
        "image_id": item["image_id"],
    }


def _check_model(cfg: CfgNode) -> None:
    """Refuse a SlotSeg that does not learn from labels, or predicts no segments."""
    if not any(cfg.LOSSES[name].WEIGHT > 0 for name in _LEARNING_FROM_LABELS):
        keys = ", ".join(f"LOSSES.{name}.WEIGHT" for name in _LEARNING_FROM_LABELS)
        raise ConfigError(
            f"MEAN_TEACHER makes pseudo labels, but no loss learns from labels; set one of {keys} "
            "above 0, or SEMI.IMS_PER_BATCH to 0"
        )
    if cfg.MODEL.HEAD.NAME and "panoptic_seg" not in cfg.MODEL.HEAD.OUTPUTS:
        raise ConfigError(
            f"MODEL.HEAD.OUTPUTS is {list(cfg.MODEL.HEAD.OUTPUTS)}, but pseudo labels are made of "
            "panoptic_seg; add it"
        )
