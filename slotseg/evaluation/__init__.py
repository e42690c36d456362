"""Scores for slot masks, as pure functions and as a Detectron2 evaluator."""

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
from slotseg.evaluation.segment_usage import SegmentUsage, segment_usage
from slotseg.evaluation.slot_evaluator import (
    DEFINITIONS,
    MASK_SOURCES,
    SlotEvaluator,
    attention_segments,
    score_tables,
)

__all__ = [
    "DEFINITIONS",
    "MASK_SOURCES",
    "ImageScore",
    "SegmentUsage",
    "SlotEvaluator",
    "adjusted_rand_index",
    "attention_segments",
    "contingency_table",
    "foreground_adjusted_rand_index",
    "hungarian_mean_iou",
    "image_scores_file",
    "mean_best_overlap",
    "pairwise_iou",
    "read_image_scores",
    "score_tables",
    "segment_usage",
    "write_image_scores",
]
