"""Scores for slot masks and panoptic quality, as pure functions and as Detectron2 evaluators."""

from slotseg.evaluation.clustering import (
    adjusted_rand_index,
    contingency_table,
    foreground_adjusted_rand_index,
    hungarian_mean_iou,
    mean_best_overlap,
    pairwise_iou,
)
from slotseg.evaluation.image_scores import (
    ImageScore,
    image_scores_file,
    read_image_scores,
    write_image_scores,
)
from slotseg.evaluation.panoptic_evaluator import PanopticQualityEvaluator
from slotseg.evaluation.panoptic_files import evaluate_files
from slotseg.evaluation.panoptic_quality import (
    ClassQuality,
    GroupQuality,
    PanopticCounts,
    SegmentMap,
    class_qualities,
    count_image,
    group_quality,
)
from slotseg.evaluation.panoptic_report import PanopticReport
from slotseg.evaluation.segment_usage import SegmentUsage, segment_usage
from slotseg.evaluation.slot_evaluator import (
    DEFINITIONS,
    MASK_SOURCES,
    SlotEvaluator,
    attention_segments,
    masks_of,
    score_tables,
)

__all__ = [
    "ClassQuality",
    "DEFINITIONS",
    "GroupQuality",
    "ImageScore",
    "MASK_SOURCES",
    "PanopticCounts",
    "PanopticQualityEvaluator",
    "PanopticReport",
    "SegmentMap",
    "SegmentUsage",
    "SlotEvaluator",
    "adjusted_rand_index",
    "attention_segments",
    "class_qualities",
    "contingency_table",
    "count_image",
    "evaluate_files",
    "foreground_adjusted_rand_index",
    "group_quality",
    "hungarian_mean_iou",
    "image_scores_file",
    "masks_of",
    "mean_best_overlap",
    "pairwise_iou",
    "read_image_scores",
    "score_tables",
    "segment_usage",
    "write_image_scores",
]
