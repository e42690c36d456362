"""Which evaluator scores a data set: its Metadata's ``evaluator_type`` decides."""

from __future__ import annotations

import os
from collections.abc import Callable

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators

from slotseg.classes import class_set
from slotseg.errors import ConfigError
from slotseg.evaluation.at_truth_size import AtTruthSize
from slotseg.evaluation.cluster_evaluator import ClusterPanopticEvaluator
from slotseg.evaluation.panoptic_evaluator import PanopticQualityEvaluator
from slotseg.evaluation.slot_evaluator import SlotEvaluator

# Folder of OUTPUT_DIR with what evaluators write besides the scores.
INFERENCE_FOLDER = "inference"


def build_evaluator(cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
    """The evaluator of a registered set, see :data:`EVALUATORS`.

    Raises:
        ConfigError: none is known for its ``evaluator_type``, or its classes are not those that
            the model has.
    """
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type")
    if kind not in EVALUATORS:
        raise ConfigError(
            f"DATASETS.TEST: {dataset_name} has the evaluator_type {kind!r}, known are "
            f"{', '.join(EVALUATORS)}; override Trainer.build_evaluator for others"
        )
    return EVALUATORS[kind](cfg, dataset_name, os.path.join(cfg.OUTPUT_DIR, INFERENCE_FOLDER))


def _slots(cfg: CfgNode, dataset_name: str, output_dir: str) -> DatasetEvaluator:
    return SlotEvaluator(dataset_name, mask_source=cfg.TEST.MASK_SOURCE, output_dir=output_dir)


def _panoptic(cfg: CfgNode, dataset_name: str, output_dir: str) -> DatasetEvaluator:
    quality = _quality(cfg, dataset_name, output_dir)
    if not cfg.TEST.SLOT_SCORES:
        return quality
    # The mapper gives the true segments at the size of the model's input, panoptic quality reads
    # the file's.
    return DatasetEvaluators([quality, AtTruthSize(_slots(cfg, dataset_name, output_dir))])


def _quality(cfg: CfgNode, dataset_name: str, output_dir: str) -> DatasetEvaluator:
    files = {"output_dir": output_dir, "export_coco": cfg.TEST.EXPORT_COCO}
    if clusters := cfg.UNSUPERVISED.CLUSTERS:
        return ClusterPanopticEvaluator(
            dataset_name, clusters, extra=cfg.UNSUPERVISED.EXTRA_CLUSTERS, **files
        )
    _check_classes(cfg, dataset_name)
    return PanopticQualityEvaluator(dataset_name, **files)


def _check_classes(cfg: CfgNode, dataset_name: str) -> None:
    """A model numbers the classes of the first training set; a set with others would be scored as
    if class c were the same in both. Which of them are things may differ: that is scored as it is.
    """
    for name in cfg.DATASETS.TRAIN[:1]:
        metadata = MetadataCatalog.get(name)
        trained = metadata.get("stuff_classes")
        if metadata.get("evaluator_type") != "panoptic" or not trained:
            continue
        found = class_set(dataset_name).names
        if found != tuple(trained):
            raise ConfigError(
                f"DATASETS.TEST: {dataset_name} has {len(found)} classes that are not, or not in "
                f"this order, the {len(trained)} of {name}, whose classes the model has; name sets "
                "of the same classes in DATASETS.TRAIN and DATASETS.TEST"
            )


# evaluator_type -> (cfg, data set, folder for files) -> evaluator
EVALUATORS: dict[str, Callable[[CfgNode, str, str], DatasetEvaluator]] = {
    "slots": _slots,
    "panoptic": _panoptic,
}
