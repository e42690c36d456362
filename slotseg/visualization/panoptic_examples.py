"""Example images of a report on a panoptic run: image, truth and prediction in class colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from detectron2.data import Metadata

from slotseg.visualization.examples import Panel, fitted
from slotseg.visualization.palette import VOID, instance_shade

_OUTLINE = (255, 255, 255)


@dataclass(frozen=True)
class Segments:
    """A panoptic map.

    Attributes:
        ids: integer ``[H, W]``, 0 is no segment.
        info: one mapping a segment with ``id``, ``category_id`` (contiguous) and ``isthing``.
    """

    ids: np.ndarray
    info: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class PanopticExample:
    """One image with what is known and what was predicted.

    Attributes:
        name: shown to the reader, the file's name for example.
        image: uint8 ``[H, W, 3]`` RGB.
        prediction: of the same size.
        metadata: of the classes.
        truth: of the same size; None: not known.
        drawn: what the model drew by name, such as its reconstruction: uint8 ``[h, w, 3]`` RGB.
        group: why it is shown, see :data:`slotseg.visualization.examples.GROUPS`.
        scores: of this image, by name, in percent.
    """

    name: str
    image: np.ndarray
    prediction: Segments
    metadata: Metadata
    truth: Segments | None = None
    drawn: dict[str, np.ndarray] = field(default_factory=dict)
    group: str = "random"
    scores: dict[str, float] = field(default_factory=dict)


def panoptic_panels(example: PanopticExample) -> list[Panel]:
    """Image, truth where it is known, prediction and what is drawn, in the size of the image."""
    panels = [Panel("image", example.image)]
    for label, segments in (("truth", example.truth), ("prediction", example.prediction)):
        if segments is not None:
            panels.append(Panel(label, draw_panoptic_map(segments, example.metadata), flat=True))
    return panels + [Panel(name, fitted(p, example.image)) for name, p in example.drawn.items()]


def class_legend(examples: Sequence[PanopticExample]) -> list[tuple[str, tuple[int, int, int]]]:
    """Names and colours of the classes that any of the examples shows, in the set's order."""
    if not examples:
        return []
    shown = {
        segment["category_id"]
        for example in examples
        for segments in (example.truth, example.prediction)
        if segments is not None
        for segment in segments.info
    }
    metadata = examples[0].metadata
    return [
        (metadata.stuff_classes[number], tuple(metadata.stuff_colors[number]))
        for number in sorted(shown)
    ]


def draw_panoptic_map(segments: Segments, metadata: Metadata) -> np.ndarray:
    """Flat class colours, a shade and a thin white outline for every thing, black for void.

    Returns:
        uint8 ``[H, W, 3]`` RGB.
    """
    ids, index = np.unique(segments.ids, return_inverse=True)
    index = index.reshape(segments.ids.shape)
    colors = np.full((len(ids), 3), VOID, np.float64)
    is_thing = np.zeros(len(ids), bool)
    place = {int(number): position for position, number in enumerate(ids)}
    things_of_class: dict[int, int] = {}
    for segment in segments.info:
        position = place.get(int(segment["id"]))
        if position is None:
            continue
        category = int(segment["category_id"])
        color = np.asarray(metadata.stuff_colors[category], np.float64)
        if segment["isthing"]:
            number = things_of_class.setdefault(category, 0)
            things_of_class[category] += 1
            color = instance_shade(color, number)
            is_thing[position] = True
        colors[position] = color
    picture = colors.round().astype(np.uint8)[index]
    picture[_inner_edges(index) & is_thing[index]] = _OUTLINE
    return picture


def _inner_edges(index: np.ndarray) -> np.ndarray:
    """Pixels whose right or lower neighbour belongs to another segment."""
    edges = np.zeros(index.shape, bool)
    edges[:-1] |= index[:-1] != index[1:]
    edges[:, :-1] |= index[:, :-1] != index[:, 1:]
    return edges
