"""Detectron2 evaluator for slot masks: ARI, FG-ARI, mBO, mIoU and how slots share the objects."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from torch import Tensor
from torch.nn import functional as F

from slotseg.errors import ConfigError, DatasetError
from slotseg.evaluation import clustering
from slotseg.evaluation.image_scores import ImageScore, image_scores_file, write_image_scores
from slotseg.evaluation.segment_usage import segment_usage
from slotseg.ops.hierarchy import parent_masks

MASK_SOURCES = ("decoder", "attention", "parents")

# One line a score: what it is, for reports and for readers of a results file.
DEFINITIONS: dict[str, str] = {
    "ARI": "Adjusted Rand index between predicted and true segments over all valid pixels, "
    "background included. 1 is perfect, 0 is chance. Mean over images.",
    "FG-ARI": "Adjusted Rand index over the pixels of true objects only; predicted background "
    "segments stay. Mean over images that show an object.",
    "mBO": "Mean best overlap: for every true object the best IoU with any predicted segment, "
    "which may be the best of several. Mean per image, then over images. The background is not "
    "an object.",
    "mIoU": "The same with a one-to-one Hungarian matching; a true object without a partner "
    "scores 0. Mean per image, then over images.",
    "slots_in_use": "Predicted segments that hold at least one valid pixel. Mean over images.",
    "slots_per_object": "Predicted segments that lie mostly (more than half of their pixels) in "
    "an object. Mean over the objects of an image, then over images; 1 is ideal.",
    "objects_split": "Share of objects with two or more predicted segments mostly in them.",
    "objects_merged": "Share of objects that are, together with another object, mostly taken by "
    "one predicted segment.",
    "objects_missed": "Share of objects that are mostly taken by a predicted segment which is "
    "mostly background.",
    "images": "Images that were scored.",
    "images_without_foreground": "Images that show no object; they are left out of every score "
    "but ARI and slots_in_use.",
    "height": "Height in pixels of the scored maps (the largest, if they differ).",
    "width": "Width in pixels of the scored maps (the largest, if they differ).",
    "attention_masks": "1 if the scored masks are the attention masks, 0 if the decoder's.",
    "parent_masks": "1 if the scored masks are those of the parents of a two-level grouping, each "
    "the sum of the decoder's masks of its sub-slots; 0 if every slot is a segment.",
}

_HEADLINE = ("ARI", "FG-ARI", "mBO", "mIoU")

# Above this id the tables would be needlessly wide: ids are then renumbered first.
_LARGEST_DIRECT_ID = 255

_logger = logging.getLogger(__name__)


class SlotEvaluator(DatasetEvaluator):
    """Score predicted slot masks against true instance masks.

    Inputs are the mapper's dicts with ``segment_map`` (int64 ``[H, W]``, -1 is void) and
    ``segment_is_object`` (bool ``[S]``); outputs are the model's dicts with
    ``panoptic_seg``, or what :func:`masks_of` needs. Any part of a data set may be scored, in any
    order and on any number of ranks: sums are exactly rounded, so the result does not depend on
    the order. What is kept between batches is a row of scores an image, never a mask.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        mask_source: str = "decoder",
        output_dir: str | None = None,
    ) -> None:
        """
        Args:
            dataset_name: used in messages and in the name of the per-image file.
            mask_source: "decoder" scores ``panoptic_seg``; "attention" scores the masks of the
                last competition and "parents" the masks of the upper level of a two-level
                grouping, both upsampled bilinearly to the size of the true map.
            output_dir: where ``<dataset_name>_images.csv`` (one row an image) is written; None
                writes nothing.

        Raises:
            ConfigError: an unknown mask source.
        """
        _check_source(mask_source)
        self._dataset_name = dataset_name
        self._mask_source = mask_source
        self._output_dir = output_dir
        self._images: list[ImageScore] = []

    def reset(self) -> None:
        """Forget all images."""
        self._images = []

    def process(
        self, inputs: Iterable[Mapping[str, Any]], outputs: Iterable[Mapping[str, Any]]
    ) -> None:
        """Score one batch.

        Raises:
            DatasetError: an image without a true mask, or maps that do not fit together.
        """
        # One contingency table a size, so that a batch of equal images is counted in one go.
        groups: dict[tuple[int, ...], list[tuple[Mapping[str, Any], Tensor]]] = defaultdict(list)
        for item, output in zip(inputs, outputs, strict=True):
            truth = self._true_map(item)
            groups[tuple(truth.shape)].append((item, self._predicted_map(item, output, truth)))
        for group in groups.values():
            self._score([item for item, _ in group], [pred for _, pred in group])

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Mean scores over the images of all ranks.

        Returns:
            ``{"slots": {name: float}}`` with the names of :data:`DEFINITIONS` on the main rank,
            ``{}`` on the others. A score that no image defines is NaN.

        Raises:
            DatasetError: no image was scored on any rank.
        """
        gathered = comm.gather(self._images, dst=0)
        if not comm.is_main_process():
            return {}
        images = sorted(
            (image for part in gathered for image in part), key=lambda image: image.file_name
        )
        if not images:
            raise DatasetError(f"{self._dataset_name}: no image was scored; the set is empty")
        results = summarize(images)
        _logger.info(self._describe(results))
        if self._output_dir:
            path = f"{self._output_dir.rstrip('/')}/{image_scores_file(self._dataset_name)}"
            write_image_scores(path, images)
            _logger.info(f"Scores of every image: {path}")
        return {"slots": results}

    def _true_map(self, item: Mapping[str, Any]) -> Tensor:
        if item.get("segment_map") is None:
            raise DatasetError(
                f"{item.get('file_name', 'an image')}: {self._dataset_name} has no masks, so it "
                "cannot be scored; set DATASETS.TEST to a set with masks"
            )
        return item["segment_map"].cpu()

    def _predicted_map(
        self, item: Mapping[str, Any], output: Mapping[str, Any], truth: Tensor
    ) -> Tensor:
        """Segment ids as large as ``truth``; 0 is no segment, segment i is slot i - 1."""
        if self._mask_source != "decoder":
            masks = masks_of(output, self._mask_source)
            if masks is None:
                raise ConfigError(
                    f"TEST.MASK_SOURCE: the model gives no {self._mask_source} masks; use decoder"
                )
            return attention_segments(masks, tuple(truth.shape)).cpu()
        pred = output["panoptic_seg"][0].cpu()
        if pred.shape != truth.shape:
            raise DatasetError(
                f"{item.get('file_name', 'an image')}: the prediction is "
                f"{pred.shape[-1]}x{pred.shape[-2]} and the true mask "
                f"{truth.shape[-1]}x{truth.shape[-2]} pixels; let the mapper and the model use "
                "one INPUT.IMAGE_SIZE"
            )
        return pred

    def _score(self, items: list[Mapping[str, Any]], predictions: list[Tensor]) -> None:
        truth = torch.stack([item["segment_map"].cpu().long() for item in items])
        objects = [item["segment_is_object"].cpu().bool() for item in items]
        num_true = max(len(flags) for flags in objects)
        is_object = torch.stack([F.pad(flags, (0, num_true - len(flags))) for flags in objects])
        # Negative ids count as "no segment": a prediction cannot declare pixels void.
        pred = torch.stack([_small_ids(ids.long().clamp(min=0)) for ids in predictions])
        try:
            table = clustering.contingency_table(pred, truth, int(pred.max()) + 1, num_true)
        except ValueError as error:
            names = ", ".join(str(item.get("file_name", "an image")) for item in items[:3])
            raise DatasetError(f"{names}: {error}") from error
        is_segment = torch.ones(table.shape[:2], dtype=torch.bool)
        is_segment[:, 0] = False
        scores = score_tables(table, is_object, is_segment)
        visible = (is_object & (table.sum(1) > 0)).sum(1).tolist()
        columns = {name: values.tolist() for name, values in scores.items()}
        for index, item in enumerate(items):
            file_name = str(item.get("file_name", ""))
            self._images.append(
                ImageScore(
                    image_id=str(item.get("image_id", file_name)),
                    file_name=file_name,
                    height=truth.shape[1],
                    width=truth.shape[2],
                    mask_source=self._mask_source,
                    objects=visible[index],
                    scores={name: values[index] for name, values in columns.items()},
                )
            )

    def _describe(self, results: Mapping[str, float]) -> str:
        scores = ", ".join(f"{name} {results[name]:.4f}" for name in _HEADLINE)
        left_out = int(results["images_without_foreground"])
        note = f"; {left_out} of them without foreground, left out of FG-ARI, mBO and mIoU"
        return (
            f"{self._dataset_name}: {scores} on {int(results['images'])} images at "
            f"{int(results['height'])}x{int(results['width'])} (height x width), "
            f"{self._mask_source} masks" + (note if left_out else "")
        )


def score_tables(table: Tensor, is_object: Tensor, is_segment: Tensor) -> dict[str, Tensor]:
    """Every score of every image of a batch.

    Args:
        table: float64 ``[B, P, T]`` from :func:`slotseg.evaluation.clustering.contingency_table`.
        is_object: bool ``[B, T]``, which true segments are objects.
        is_segment: bool ``[B, P]``, which rows are predicted segments.

    Returns:
        name to float64 ``[B]``, in the order in which they are reported.
    """
    usage = segment_usage(table, is_object, is_segment)
    return {
        "ARI": clustering.adjusted_rand_index(table),
        "FG-ARI": clustering.foreground_adjusted_rand_index(table, is_object),
        "mBO": clustering.mean_best_overlap(table, is_object, is_segment),
        "mIoU": clustering.hungarian_mean_iou(table, is_object, is_segment),
        "slots_in_use": usage.in_use,
        "slots_per_object": usage.per_object,
        "objects_split": usage.split,
        "objects_merged": usage.merged,
        "objects_missed": usage.missed,
    }


def summarize(images: list[ImageScore]) -> dict[str, float]:
    """Mean of every score over the images that define it, with the counts and the resolution.

    ``math.fsum`` rounds once, so the order of the images and the number of ranks do not matter.
    """
    results: dict[str, float] = {}
    for name in images[0].scores:
        defined = [image.scores[name] for image in images if not math.isnan(image.scores[name])]
        results[name] = math.fsum(defined) / len(defined) if defined else math.nan
    results["images"] = float(len(images))
    results["images_without_foreground"] = float(sum(image.objects == 0 for image in images))
    results["height"] = float(max(image.height for image in images))
    results["width"] = float(max(image.width for image in images))
    results["attention_masks"] = float(images[0].mask_source == "attention")
    results["parent_masks"] = float(images[0].mask_source == "parents")
    return results


@torch.no_grad()
def masks_of(output: Mapping[str, Any], source: str) -> Tensor | None:
    """The soft masks of one image that ``TEST.MASK_SOURCE`` names.

    Args:
        output: the model's dict: ``slot_masks`` ``[K, h, w]`` for "decoder", ``attention``
            ``[K, h, w]`` for "attention"; ``slot_masks``, ``parent_of`` ``[K]`` and
            ``parent_attention`` ``[M, ...]`` for "parents".
        source: one of :data:`MASK_SOURCES`.

    Returns:
        float ``[K, h, w]``, or ``[M, h, w]`` for "parents"; they sum to 1 over K or M. None if the
        model makes none of that kind.

    Raises:
        ConfigError: an unknown source.
    """
    _check_source(source)
    if source != "parents":
        return output.get("attention" if source == "attention" else "slot_masks")
    if output.get("parent_of") is None:
        return None
    return parent_masks(
        output["slot_masks"], output["parent_of"], output["parent_attention"].shape[0]
    )


@torch.no_grad()
def attention_segments(attention: Tensor, size: tuple[int, int]) -> Tensor:
    """Segment ids (slot index + 1) from soft masks: bilinear upsampling, then the largest.

    Args:
        attention: float ``[K, h, w]``.
        size: height and width in pixels of the result.

    Returns:
        int64 ``[height, width]``.

    Raises:
        ValueError: not three dimensions.
    """
    if attention.dim() != 3:
        raise ValueError(f"attention must be [K, h, w], got {list(attention.shape)}")
    with torch.autocast(attention.device.type, enabled=False):
        masks = F.interpolate(attention[None].float(), size, mode="bilinear", align_corners=False)
    return masks[0].argmax(0) + 1


def _check_source(source: str) -> None:
    if source not in MASK_SOURCES:
        raise ConfigError(
            f"TEST.MASK_SOURCE: {source!r} is not known; choose from {', '.join(MASK_SOURCES)}"
        )


def _small_ids(pred: Tensor) -> Tensor:
    """Renumber segment ids from 1 if they are large; 0 (no segment) stays 0.

    Slot ids are small, but ids of other panoptic models (category * 1000 + instance) are not.
    """
    if pred.numel() == 0 or pred.max() <= _LARGEST_DIRECT_ID:
        return pred
    ids, renumbered = torch.unique(pred, return_inverse=True)
    return renumbered + int(ids[0] != 0)
