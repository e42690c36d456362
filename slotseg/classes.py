"""Classes of a panoptic data set, and how Detectron2's Metadata holds them.

There is one numbering everywhere inside the project, the *contiguous* one: class c is the c-th of
the set, things and stuff together, as Detectron2 itself does for Cityscapes. The numbers in a
set's files, the *dataset ids*, appear only where files are read or written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from slotseg.errors import ConfigError

# The class number of pixels without a class, in semantic maps.
IGNORE_LABEL = 255


@dataclass(frozen=True)
class Category:
    """One class of a data set.

    Attributes:
        id: its number in the set's files.
        name: as the set spells it.
        is_thing: countable, each instance a segment of its own; otherwise stuff.
        color: (R, G, B) in 0..255, for pictures.
    """

    id: int
    name: str
    is_thing: bool
    color: tuple[int, int, int]


@dataclass(frozen=True)
class ClassSet:
    """The classes of a data set in contiguous order.

    Attributes:
        names: one a class.
        is_thing: one a class.
        dataset_ids: their numbers in the set's files.
    """

    names: tuple[str, ...]
    is_thing: tuple[bool, ...]
    dataset_ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def things(self) -> tuple[int, ...]:
        """Contiguous numbers of the thing classes."""
        return tuple(c for c, thing in enumerate(self.is_thing) if thing)

    @property
    def stuff(self) -> tuple[int, ...]:
        """Contiguous numbers of the stuff classes."""
        return tuple(c for c, thing in enumerate(self.is_thing) if not thing)


def set_class_metadata(dataset_name: str, categories: Sequence[Category]) -> None:
    """Write ``categories`` into the Metadata of a registered set.

    Both ``thing_classes`` and ``stuff_classes`` list all names (and both colour lists all
    colours), so that Detectron2's Visualizer can look up any contiguous number; the two id maps
    tell things from stuff.
    """
    names = [category.name for category in categories]
    colors = [category.color for category in categories]
    numbered = list(enumerate(categories))
    MetadataCatalog.get(dataset_name).set(
        thing_classes=names,
        stuff_classes=names,
        thing_colors=colors,
        stuff_colors=colors,
        thing_dataset_id_to_contiguous_id={c.id: i for i, c in numbered if c.is_thing},
        stuff_dataset_id_to_contiguous_id={c.id: i for i, c in numbered if not c.is_thing},
        ignore_label=IGNORE_LABEL,
    )


def class_set(dataset_name: str) -> ClassSet:
    """The classes of a set, as :func:`set_class_metadata` wrote them.

    A set that was registered without classes is loaded, because its own file lists them.

    Raises:
        ConfigError: its Metadata does not number things and stuff together.
        DatasetError: it has to be loaded and cannot.
    """
    metadata = MetadataCatalog.get(dataset_name)
    if "stuff_classes" not in metadata.as_dict() and dataset_name in DatasetCatalog:
        DatasetCatalog.get(dataset_name)
    things = metadata.get("thing_dataset_id_to_contiguous_id", {})
    stuff = metadata.get("stuff_dataset_id_to_contiguous_id", {})
    dataset_id_of = {number: dataset_id for dataset_id, number in {**stuff, **things}.items()}
    names = metadata.get("stuff_classes", [])
    if sorted([*things.values(), *stuff.values()]) != list(range(len(names))) or not names:
        raise ConfigError(
            f"DATASETS: {dataset_name} has no panoptic classes that number things and stuff "
            "together; register it with slotseg.data.register_coco_panoptic"
        )
    thing_numbers = set(things.values())
    return ClassSet(
        names=tuple(names),
        is_thing=tuple(c in thing_numbers for c in range(len(names))),
        dataset_ids=tuple(dataset_id_of[c] for c in range(len(names))),
    )


def training_classes(cfg: CfgNode) -> ClassSet:
    """The classes that a model is built for: those of the first set of ``DATASETS.TRAIN``.

    Raises:
        ConfigError: there is no such set, or see :func:`class_set`.
        DatasetError: see :func:`class_set`.
    """
    if not cfg.DATASETS.TRAIN:
        raise ConfigError(
            f"DATASETS.TRAIN is empty, and {cfg.MODEL.META_ARCHITECTURE} takes its classes from "
            "the first set there; name the set that it is, or was, trained on"
        )
    return class_set(cfg.DATASETS.TRAIN[0])
