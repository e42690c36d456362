"""How good pseudo labels would be, where the truth is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from slotseg.engine.inference import inference_mode
from slotseg.errors import DatasetError
from slotseg.evaluation.panoptic_quality import (
    PanopticCounts,
    SegmentMap,
    class_qualities,
    count_image,
    group_quality,
)
from slotseg.semi.filtering import LabelFilter, TrustedSegments
from slotseg.semi.uncertainty import PixelUncertainty

_BINS = 1000


@dataclass(frozen=True)
class LabelSetting:
    """One way to choose what becomes a label.

    Attributes:
        name: for tables.
        measure: of uncertainty, as ``PSEUDO_LABELS.UNCERTAINTY``.
        filters: the thresholds.
    """

    name: str
    measure: str
    filters: LabelFilter


@dataclass
class LabelScores:
    """Agreement of pseudo labels with the truth, over images.

    Pixels are those with a true class; void and crowd do not count.

    Attributes:
        setting: whose labels these are.
        counts: of the kept segments, with the parts of them that are kept.
        kept, kept_right: pixels with a label, and those among them whose class is right.
        dropped, dropped_right: the same of pixels that the teacher gave a class but that were left
            out.
        things, things_kept, things_right: pixels that the teacher gave a thing class, those that
            are kept, and those among the kept whose class is right.
        pixels: all, with or without a class.
    """

    setting: LabelSetting
    counts: PanopticCounts
    kept: int = 0
    kept_right: int = 0
    dropped: int = 0
    dropped_right: int = 0
    things: int = 0
    things_kept: int = 0
    things_right: int = 0
    pixels: int = 0

    def row(self) -> dict[str, float]:
        """In percent: ``kept`` of all pixels, the share of right classes among ``kept`` and
        ``dropped`` pixels; the same of predicted things; ``right segments``, those that match a
        true one among the kept, and ``PQ`` of the labels. NaN where there is none.
        """
        qualities = class_qualities(self.counts)
        found = sum(self.counts.tp) + sum(self.counts.fp)
        return {
            "kept": _percent(self.kept, self.pixels),
            "right of kept": _percent(self.kept_right, self.kept),
            "right of dropped": _percent(self.dropped_right, self.dropped),
            "kept things": _percent(self.things_kept, self.things),
            "right of kept things": _percent(self.things_right, self.things_kept),
            "right segments": _percent(sum(self.counts.tp), found),
            "PQ": 100 * group_quality(qualities).pq,
        }


@dataclass
class MeasureScores:
    """How well a measure of uncertainty tells wrong pixels from right ones.

    Attributes:
        right, wrong: ``[1000]``, pixels with a predicted class by their uncertainty from 0 to 1.
    """

    right: np.ndarray = field(default_factory=lambda: np.zeros(_BINS))
    wrong: np.ndarray = field(default_factory=lambda: np.zeros(_BINS))

    def area_under_curve(self) -> float:
        """The probability that a wrong pixel is more uncertain than a right one; 0.5 is chance, NaN
        where all are right or all are wrong.
        """
        pairs = self.right.sum() * self.wrong.sum()
        if pairs == 0:
            return float("nan")
        surer = np.cumsum(self.right) - self.right / 2
        return float((self.wrong * surer).sum() / pairs)


def score_pseudo_labels(
    model: nn.Module,
    loader: Iterable[list[dict[str, Any]]],
    settings: Sequence[LabelSetting],
    is_thing: Sequence[bool],
) -> tuple[list[LabelScores], dict[str, MeasureScores]]:
    """Label images whose truth is known, and compare.

    Args:
        model: the teacher.
        loader: batches of mapped dicts with panoptic truth, of images of one size each.
        settings: how labels are chosen; those with one measure share the model's passes.
        is_thing: of each class of the model and of the truth.

    Returns:
        One entry for each setting, and one for each measure but "none".

    Raises:
        DatasetError: an image without panoptic truth.
    """
    scores = [LabelScores(setting, PanopticCounts.zeros(len(is_thing))) for setting in settings]
    measures = {s.measure: PixelUncertainty(s.measure) for s in settings}
    of_measures = {name: MeasureScores() for name in measures if name != "none"}
    with inference_mode(model):
        for batch in loader:
            truths = [_TrueImage.of(item) for item in batch]
            for name, measure in measures.items():
                outputs, uncertainty = measure.predict(model, [_input(item) for item in batch])
                for truth, output, unsure in zip(truths, outputs, uncertainty, strict=True):
                    prediction = output["panoptic_seg"]
                    for score in scores:
                        if score.setting.measure == name:
                            _add(score, truth, score.setting.filters(*prediction, unsure), is_thing)
                    if unsure is not None:
                        _add_pixels(
                            of_measures[name],
                            truth,
                            LabelFilter(0, 0, 1)(*prediction, None),
                            unsure,
                        )
    return scores, of_measures


@dataclass(frozen=True)
class _TrueImage:
    """The truth at the size of the model's input: its segments and, ``[h, w]``, its classes."""

    segments: SegmentMap
    classes: np.ndarray

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> _TrueImage:
        if "segment_category" not in item:
            raise DatasetError(
                f"{item['file_name']}: has no panoptic truth to compare pseudo labels with; name a "
                "labelled panoptic set in DATASETS.TEST"
            )
        segment_map = item["segment_map"].numpy()
        category, crowd = item["segment_category"].numpy(), item["segment_is_crowd"].numpy()
        segments = [
            {"id": n + 1, "category_id": int(category[n]), "iscrowd": int(crowd[n])}
            for n in np.unique(segment_map[segment_map >= 0]).tolist()
        ]
        # Number -1 looks up the last entry.
        class_of = np.append(np.where(crowd, -1, category), -1)
        return cls(SegmentMap(segment_map + 1, segments, item["file_name"]), class_of[segment_map])


def _input(item: Mapping[str, Any]) -> dict[str, Any]:
    """The image alone, answered at its own size."""
    height, width = item["image"].shape[1:]
    return {key: item[key] for key in ("image", "file_name", "image_id")} | {
        "height": height,
        "width": width,
    }


def _add(
    score: LabelScores, truth: _TrueImage, found: TrustedSegments, is_thing: Sequence[bool]
) -> None:
    labels = found.segment_map.cpu().numpy()
    predicted = _classes(found.predicted, found.categories)
    right, kept = predicted == truth.classes, labels >= 0
    known = truth.classes >= 0
    dropped = ~kept & (predicted >= 0)
    score.pixels += int(known.sum())
    score.kept += int((kept & known).sum())
    score.kept_right += int((kept & known & right).sum())
    score.dropped += int((dropped & known).sum())
    score.dropped_right += int((dropped & known & right).sum())
    # Class -1 looks up the last entry.
    things = np.array([*is_thing, False])[predicted] & known
    score.things += int(things.sum())
    score.things_kept += int((things & kept).sum())
    score.things_right += int((things & kept & right).sum())
    segments = [
        {"id": number + 1, "category_id": segment["category_id"]}
        for number, segment in enumerate(found.segments)
    ]
    prediction = SegmentMap(labels + 1, segments, f"labels of {truth.segments.source}")
    classes = {number: number for number in range(len(score.counts.tp))}
    score.counts += count_image(truth.segments, prediction, classes)


def _add_pixels(
    scores: MeasureScores, truth: _TrueImage, found: TrustedSegments, uncertainty: Tensor
) -> None:
    predicted = _classes(found.predicted, found.categories)
    known = (truth.classes >= 0) & (predicted >= 0)
    bins = (uncertainty.float().cpu().numpy() * _BINS).astype(np.int64).clip(0, _BINS - 1)
    right = predicted == truth.classes
    scores.right += np.bincount(bins[known & right], minlength=_BINS)
    scores.wrong += np.bincount(bins[known & ~right], minlength=_BINS)


def _classes(segment_map: Tensor, categories: Tensor) -> np.ndarray:
    """``[h, w]``, the class of every pixel, -1 for none."""
    return torch.cat([categories, categories.new_tensor([-1])])[segment_map.cpu()].numpy()


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else float("nan")
