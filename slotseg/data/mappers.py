"""Which mapper reads which kind of data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from slotseg.classes import class_set
from slotseg.data.mapper import SceneMapper
from slotseg.data.panoptic_mapper import PanopticMapper
from slotseg.data.unlabelled import WithoutLabels
from slotseg.errors import ConfigError

Mapper = Callable[[dict[str, Any]], dict[str, Any]]

# Metadata's evaluator_type -> class. A project with sets of another kind adds its own.
MAPPERS: dict[str, Callable[[CfgNode, bool], Mapper]] = {
    "slots": SceneMapper,
    "panoptic": PanopticMapper,
}


def build_mapper(cfg: CfgNode, is_train: bool, dataset_names: Sequence[str]) -> Mapper:
    """The mapper for the sets with these names.

    Args:
        cfg: whole config.
        is_train: whether to augment, and with ``DATASETS.TRAIN_LABELS`` off to read images only.
        dataset_names: registered sets, all of one kind (``evaluator_type`` of their Metadata; a
            set without one is taken as scenes, "slots").

    Raises:
        ConfigError: sets of different or unknown kinds or of different classes, or a config that
            cannot work.
    """
    kinds = {name: dataset_kind(name) for name in dataset_names}
    for name, kind in kinds.items():
        if kind not in MAPPERS:
            raise ConfigError(
                f"DATASETS: {name} has evaluator_type {kind!r}, expected one of "
                f"{', '.join(MAPPERS)}; register it with slotseg.data.register_coco_panoptic, or "
                "pass a mapper of your own"
            )
    if len(set(kinds.values())) > 1:
        told = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
        raise ConfigError(
            f"DATASETS.TRAIN mixes sets of different kinds: {told}; train on sets of one kind"
        )
    kind = next(iter(kinds.values()), "slots")
    if kind == "panoptic":
        check_same_classes(dataset_names)
    mapper = MAPPERS[kind](cfg, is_train)
    return mapper if cfg.DATASETS.TRAIN_LABELS or not is_train else WithoutLabels(mapper)


def dataset_kind(dataset_name: str) -> str:
    """``evaluator_type`` of a registered set, "slots" where it has none."""
    return MetadataCatalog.get(dataset_name).get("evaluator_type", "slots")


def check_same_classes(dataset_names: Sequence[str]) -> None:
    """Raise a ConfigError unless class c is the same in all sets: a mixture would be learnt without
    a word.
    """
    first, *others = dict.fromkeys(dataset_names)
    for name in others:
        expected, found = class_set(first), class_set(name)
        if (found.names, found.is_thing) != (expected.names, expected.is_thing):
            raise ConfigError(
                f"DATASETS.TRAIN: {name} ({len(found)} classes, {len(found.things)} things) has "
                f"other classes than {first} ({len(expected)}, {len(expected.things)} things), or "
                "another order of them; train on sets of the same classes"
            )
