"""Example images of a report: which to show, and their pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from slotseg.evaluation.image_scores import ImageScore
from slotseg.visualization.overlays import (
    draw_segment_map,
    enlarge,
    enlargement,
    frame,
    matched_colors,
    on_paper,
    slot_cutouts,
    tile,
    truth_colors,
)

GROUPS = ("best", "median", "worst", "random")


@dataclass(frozen=True)
class Example:
    """One image with what is known and what was predicted.

    Attributes:
        name: shown to the reader, the file's name for example.
        image: uint8 ``[H, W, 3]`` RGB.
        prediction: integer ``[H, W]``, slot index of every pixel, -1 where there is none; None: the
            model makes no segments.
        masks: float ``[K, h, w]`` in 0..1, one mask a slot; None: there are no slots.
        truth: integer ``[H, W]``, 0 background, i object i, negative void; None: no masks.
        drawn: what the model drew by name, such as its reconstruction: uint8 ``[h, w, 3]`` RGB.
        group: one of :data:`GROUPS`, why it is shown.
        scores: of this image, by name.
    """

    name: str
    image: np.ndarray
    prediction: np.ndarray | None = None
    masks: np.ndarray | None = None
    truth: np.ndarray | None = None
    drawn: dict[str, np.ndarray] = field(default_factory=dict)
    group: str = "random"
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Panel:
    """One picture of an example, in the size of the image.

    Attributes:
        label: what it is.
        picture: uint8 ``[H, W, 3]`` RGB, or ``[H, W, 4]`` RGBA.
        flat: whether it consists of flat colours, which must not be interpolated.
        color: RGB that stands for it in other panels, if any.
        unused: a slot that wins no pixel.
    """

    label: str
    picture: np.ndarray
    flat: bool = False
    color: tuple[int, int, int] | None = None
    unused: bool = False


def choose_images(
    images: Sequence[ImageScore], count: int, *, metric: str = "ARI", seed: int = 0
) -> list[tuple[str, ImageScore]]:
    """Choose images to show: best, median, worst and random in equal parts, none twice.

    Args:
        images: scores of all images; those for which the metric is not defined only serve as
            random ones.
        count: how many; fewer if there are not enough.
        metric: what to sort by, higher is better.
        seed: of the random part.

    Returns:
        (group, image), grouped in the order of :data:`GROUPS`.
    """
    ranked = sorted(
        (image for image in images if not math.isnan(image.scores.get(metric, math.nan))),
        key=lambda image: (-image.scores[metric], image.file_name),
    )
    count = min(count, len(images))
    share, rest = divmod(count, len(GROUPS))
    # The remainder goes to the worst first: that is where one learns most.
    sizes = {group: share for group in GROUPS}
    for group in ("worst", "best", "median")[:rest]:
        sizes[group] += 1
    middle = len(ranked) // 2 - sizes["median"] // 2
    wanted = {
        "best": ranked,
        "median": ranked[max(middle, 0) :],
        "worst": ranked[::-1],
        "random": [images[i] for i in np.random.default_rng(seed).permutation(len(images))],
    }
    taken: dict[str, list[ImageScore]] = {}
    used: set[str] = set()
    # Worst before median: with few images the extremes must not end up as "median".
    for group in ("best", "worst", "median", "random"):
        fresh = [image for image in wanted[group] if image.image_id not in used]
        # Random ones, taken last, also fill the places of images without a score.
        size = count - len(used) if group == "random" else sizes[group]
        taken[group] = fresh[:size]
        used.update(image.image_id for image in taken[group])
    return [(group, image) for group in GROUPS for image in taken[group]]


def example_panels(example: Example) -> tuple[list[Panel], list[Panel]]:
    """Pictures of an example.

    Returns:
        Image, truth, prediction and what is drawn, as far as there are any; and one per slot. A
        slot has the colour of its segment in the prediction, which is that of the true segment
        it matches; its picture is RGBA, the mask being the opacity.
    """
    panels = [Panel("image", example.image)]
    if example.truth is not None:
        known = truth_colors(max(int(example.truth.max()) + 1, 1))
        panels.append(Panel("truth", draw_segment_map(example.truth, known), flat=True))
    slots: list[Panel] = []
    if example.prediction is not None and example.masks is not None:
        colors = matched_colors(example.prediction, example.truth, len(example.masks))
        flat = draw_segment_map(example.prediction, colors)
        panels.append(Panel("prediction", flat, flat=True))
        slots = _slot_panels(example, colors)
    panels += [Panel(name, fitted(p, example.image)) for name, p in example.drawn.items()]
    return panels, slots


def fitted(picture: np.ndarray, image: np.ndarray) -> np.ndarray:
    """A picture in the size of an image."""
    size = image.shape[1::-1]
    if picture.shape[1::-1] == size:
        return picture
    return cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)


def _slot_panels(example: Example, colors: np.ndarray) -> list[Panel]:
    assigned = example.prediction[example.prediction >= 0]
    share = np.bincount(assigned, minlength=len(colors)) / example.prediction.size
    return [
        Panel(
            f"slot {slot}: {share[slot]:.1%}" if share[slot] else f"slot {slot}: unused",
            cutout,
            color=tuple(colors[slot].tolist()),
            unused=not share[slot],
        )
        for slot, cutout in enumerate(slot_cutouts(example.image, example.masks))
    ]


def draw_example_grid(examples: Sequence[Example], *, side: int = 192) -> np.ndarray:
    """One row an example: image, truth, prediction, what is drawn, and every slot.

    Args:
        examples: with images of one size and equal numbers of slots and panels.
        side: shorter side in pixels of every tile, at least.

    Returns:
        uint8 ``[H, W, 3]`` RGB.

    Raises:
        ValueError: no example, or examples that do not fit into one grid.
    """
    rows = []
    for example in examples:
        panels, slots = example_panels(example)
        factor = enlargement(example.image.shape[:2], side)
        thickness = max(2, side // 64)
        row = [enlarge(panel.picture, factor, smooth=not panel.flat) for panel in panels]
        row += [
            frame(enlarge(on_paper(slot.picture), factor, smooth=True), slot.color, thickness)
            for slot in slots
        ]
        rows.append(row)
    if len({(len(row), picture.shape) for row in rows for picture in row}) != 1:
        raise ValueError("a grid needs examples with images of one size and as many panels each")
    return tile([picture for row in rows for picture in row], len(rows[0]))
