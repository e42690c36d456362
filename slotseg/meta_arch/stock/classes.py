"""Which classes a stock model is built for."""

from __future__ import annotations

from detectron2.config import CfgNode

from slotseg.classes import ClassSet, class_set
from slotseg.errors import ConfigError


def classes_for(cfg: CfgNode) -> ClassSet:
    """The classes of the first set of ``DATASETS.TRAIN``.

    Raises:
        ConfigError: there is no such set, or it has no panoptic classes or no things among them.
    """
    if not cfg.DATASETS.TRAIN:
        raise ConfigError(
            f"DATASETS.TRAIN is empty, and {cfg.MODEL.META_ARCHITECTURE} takes its classes from "
            "the first set there"
        )
    name = cfg.DATASETS.TRAIN[0]
    classes = class_set(name)
    if not classes.things:
        raise ConfigError(
            f"DATASETS.TRAIN: {name} has no thing classes, and {cfg.MODEL.META_ARCHITECTURE} finds "
            "segments around things; use a semantic model"
        )
    return classes
