"""The picture of a comparison: quality over training time, and quality against speed."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from slotseg.comparison.records import Row, mean_and_deviation
from slotseg.engine.clocks import PROCESSOR, WALL

_COLORS = ("#2b63d9", "#d9662b", "#1f8a5b", "#a13fb8", "#b08900", "#1292a8", "#c2334d", "#6d7480")
_MARKERS = "osD^vPX*"
_INK, _MUTED, _GRID = "#1d2026", "#646a75", "#e2e3e0"
# Drawn over time: flat score -> label, the first of each task also against speed.
_OF_TASK = {
    "panoptic": {
        "panoptic/PQ": "PQ in percent",
        "panoptic/PQ_things": "PQ of things in percent",
        "panoptic/PQ_stuff": "PQ of stuff in percent",
    },
    "slots": {"slots/ARI": "ARI"},
}
_TOP = {"panoptic": 100.0, "slots": 1.0}


def draw_comparison(
    rows: Sequence[Row], *, dataset: str, task: str | None = None, clock: str = WALL
) -> bytes:
    """PNG of one panel and, where models were scored over time, one more a score.

    The first ones: scores over the time that training steps took, without evaluation: the mean over
    the seeds and the band from the lowest to the highest. The last one: the final score (mean over
    seeds, with the deviation) against images a second; models whose speed is not known, and those
    of other programs, are lines without a place on that axis. A model has one colour in all.

    Args:
        rows: measured; those without a score are left out.
        dataset: for the title.
        task: "panoptic" or "slots"; default: panoptic if any row has a PQ.
        clock: of the training's time, see :func:`slotseg.engine.clocks.clock`.
    """
    task = task or ("panoptic" if any(row.score("panoptic/PQ") for row in rows) else "slots")
    labels = _OF_TASK[task]
    main = next(iter(labels))
    shown = [row for row in rows if row.score(main)]
    style = {row.name: index for index, row in enumerate(shown)}
    over_time = [key for key in labels if any(_curves(row, key) for row in shown)]
    panels = len(over_time) + 1
    lines = 1 if panels < 4 else 2
    columns = math.ceil(panels / lines)
    size = (5.2 * columns + 0.4, 3.6 * lines + 0.6)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    figure.suptitle(dataset, color=_INK, fontsize=11)
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for panel, key in zip(axes, over_time, strict=False):
        _draw_curves(panel, shown, key, style, clock)
    _draw_speeds(axes[-1], shown, main, style)
    for panel, key in zip(axes, [*over_time, main], strict=True):
        # A curve may have been higher than where it ends.
        drawn = [*(row.score(key) for row in shown), *_values_over_time(shown, key)]
        highest = max((value for values in drawn for value in values), default=_TOP[task])
        panel.set_ylim(0, min(_TOP[task], max(1.2 * highest, 0.05 * _TOP[task])))
        panel.set_ylabel(labels[key], color=_MUTED, fontsize=9)
        _tidy(panel)
    handles, names = axes[-1].get_legend_handles_labels()
    if handles:
        figure.legend(
            handles,
            names,
            loc="outside lower center",
            ncols=min(len(names), 3 * columns),
            frameon=False,
            fontsize=8.5,
            labelcolor=_INK,
        )
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()


def _draw_curves(
    panel: Axes, rows: Sequence[Row], key: str, style: dict[str, int], clock: str
) -> None:
    for row in rows:
        curves = _curves(row, key)
        if not curves:
            continue
        color, marker = _look(style[row.name])
        # Seeds take the same steps, so their points correspond.
        length = min(len(values) for _, values in curves)
        minutes = np.mean([m[:length] for m, _ in curves], axis=0)
        values = np.array([v[:length] for _, v in curves])
        if len(curves) > 1:
            low, high = values.min(axis=0), values.max(axis=0)
            panel.fill_between(minutes, low, high, color=color, alpha=0.18, linewidth=0)
        panel.plot(
            minutes, values.mean(axis=0), color=color, linewidth=1.8, marker=marker, markersize=4
        )
    panel.set_xlim(left=0)
    unit = "processor minutes" if clock == PROCESSOR else "minutes"
    panel.set_xlabel(f"{unit} of training steps", color=_MUTED, fontsize=9)


def _draw_speeds(panel: Axes, rows: Sequence[Row], key: str, style: dict[str, int]) -> None:
    speeds = []
    for row in rows:
        color, marker = _look(style[row.name])
        mean, deviation = mean_and_deviation(row.score(key))
        seconds = row.number("seconds_an_image")
        if seconds is None:
            panel.axhline(mean, color=color, linewidth=1.6, linestyle=(0, (5, 3)), label=row.name)
            continue
        speeds.append(1 / seconds)
        panel.errorbar(
            speeds[-1],
            mean,
            yerr=deviation,
            color=color,
            marker=marker,
            markersize=8,
            linestyle="none",
            capsize=4,
            label=row.name,
        )
    if speeds:
        panel.set_xscale("log")
        panel.set_xlim(min(speeds) / 2, max(speeds) * 2)
        panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.xaxis.set_minor_formatter(NullFormatter())
    else:
        panel.set_xticks([])
    dashed = len(speeds) < len(rows)
    note = "images a second" + (" (dashed: not measured)" if dashed else "")
    panel.set_xlabel(note, color=_MUTED, fontsize=9)


def _curves(row: Row, key: str) -> list[tuple[list[float], list[float]]]:
    """Minutes and values of every seed that was scored more than once in training."""
    name = key.partition("/")[2]
    curves = []
    for run in row.runs:
        points = [
            (point["seconds"] / 60, point[name])
            for point in run.curve
            if name in point and math.isfinite(point[name])
        ]
        if len(points) > 1:
            curves.append(([x for x, _ in points], [y for _, y in points]))
    return curves


def _values_over_time(rows: Sequence[Row], key: str) -> list[list[float]]:
    return [values for row in rows for _, values in _curves(row, key)]


def _look(index: int) -> tuple[str, str]:
    return _COLORS[index % len(_COLORS)], _MARKERS[index % len(_MARKERS)]


def _tidy(panel: Axes) -> None:
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.spines["bottom"].set_color(_GRID)
    panel.grid(axis="y", color=_GRID, linewidth=0.8)
    panel.set_axisbelow(True)
    panel.tick_params(which="both", length=0, labelcolor=_MUTED, labelsize=8.5)
