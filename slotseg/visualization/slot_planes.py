"""Where the slots of an image start, as scatter plots."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from slotseg.visualization.plots import figure_svg, stand_in

_COLUMNS = 4
# Inches of 100 pixels.
_PANEL_WIDTH, _PANEL_HEIGHT = 2.4, 2.75
# For pictures that no style sheet colours.
_ON_WHITE = {
    "--ink": "#1d2026",
    "--muted": "#646a75",
    "--grid": "#e6e7e4",
    "--series-1": "#2b63d9",
}


def draw_slot_planes(planes: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """All planes on one white sheet, four in a row.

    Args:
        planes: at least one; see :func:`slot_plane_svg`.

    Returns:
        RGB uint8 ``[H, W, 3]``.
    """
    columns = min(len(planes), _COLUMNS)
    rows = math.ceil(len(planes) / columns)
    figure = Figure(figsize=(columns * _PANEL_WIDTH, rows * _PANEL_HEIGHT), dpi=100)
    for index, plane in enumerate(planes):
        row, column = divmod(index, columns)
        place = ((column + 0.06) / columns, 1 - (row + 0.86) / rows, 0.88 / columns, 0.76 / rows)
        axes = figure.add_axes(place)
        _draw(axes, plane, _ON_WHITE.__getitem__)
        axes.set_title(plane["image"], fontsize=8, color=_ON_WHITE["--ink"], pad=4)
        axes.set_xlabel(slot_plane_caption(plane), fontsize=6.5, color=_ON_WHITE["--muted"])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def slot_plane_svg(plane: Mapping[str, Any]) -> str:
    """One plane as an ``<svg>`` element in the colours of the page.

    Args:
        plane: ``image``, the file's name; ``points``, (x, y) of every slot; ``seeded``, how many
            of the first slots come from the image; ``similarity``, the mean cosine similarity of
            these; ``explained``, the share of the variance that the plane shows.
    """
    figure = Figure(figsize=(_PANEL_WIDTH, _PANEL_WIDTH), dpi=100)
    figure.patch.set_visible(False)
    _draw(figure.add_axes((0.03, 0.03, 0.94, 0.94)), plane, stand_in)
    return figure_svg(figure, label=f"Initial slots of {plane['image']}")


def slot_plane_caption(plane: Mapping[str, Any]) -> str:
    """How many seeds there are, how similar they are, and how much of them the plane shows."""
    count = plane["seeded"]
    if count < 2:
        told = "1 seed" if count else "no seeds"
    else:
        told = f"{count} seeds, similarity {plane['similarity']:.2f}"
    return f"{told}; {plane['explained']:.0%} of the variance"


def _draw(axes: Any, plane: Mapping[str, Any], color: Callable[[str], str]) -> None:
    points = np.asarray(plane["points"], float).reshape(-1, 2)
    seeds, learnt = points[: plane["seeded"]], points[plane["seeded"] :]
    axes.axhline(0, color=color("--grid"), linewidth=0.8, zorder=0)
    axes.axvline(0, color=color("--grid"), linewidth=0.8, zorder=0)
    axes.scatter(*learnt.T, s=26, facecolors="none", edgecolors=color("--muted"), linewidths=0.9)
    axes.scatter(*seeds.T, s=34, color=color("--series-1"), linewidths=0)
    for number, point in enumerate(seeds):
        axes.annotate(
            str(number),
            point,
            xytext=(4, 3),
            textcoords="offset points",
            fontsize=7,
            color=color("--ink"),
        )
    # The same scale on both axes, with the origin in the middle: distances are comparable.
    reach = 1.15 * max(float(np.abs(points).max(initial=0.0)), 1e-6)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.patch.set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(color("--grid"))
