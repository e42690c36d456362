"""Which classes a stock model is built for."""

from __future__ import annotations

from detectron2.config import CfgNode

from slotseg.classes import ClassSet, training_classes
from slotseg.errors import ConfigError


def classes_for(cfg: CfgNode) -> ClassSet:
    """The classes of the first set of ``DATASETS.TRAIN``.

    Raises:
        ConfigError: see :func:`training_classes`, or there are no things among them.
    """
    classes = training_classes(cfg)
    if not classes.things:
        raise ConfigError(
            f"DATASETS.TRAIN: {cfg.DATASETS.TRAIN[0]} has no thing classes, and "
            f"{cfg.MODEL.META_ARCHITECTURE} finds segments around things; use a semantic model"
        )
    return classes
