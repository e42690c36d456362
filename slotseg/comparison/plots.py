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

_COLORS = ("#2b63d9", "#d9662b", "#1f8a5b", "#a13fb8", "#b08900", "#1292a8", "#c2334d", "#6d7480")
_MARKERS = "osD^vPX*"
_INK, _MUTED, _GRID = "#1d2026", "#646a75", "#e2e3e0"
# Score -> (label, largest value).
_SCORES = {"PQ": ("panoptic/PQ", "PQ in percent", 100.0), "ARI": ("slots/ARI", "ARI", 1.0)}


def draw_comparison(rows: Sequence[Row], *, dataset: str, score: str | None = None) -> bytes:
    """PNG of up to two panels; a model has one colour in both, seeds are thin lines.

    Left, where a model was scored several times: the score over the time that training steps took,
    without evaluation. Right: the final score (mean over seeds, with the deviation) against images
    a second; models whose speed is not known, and those of other programs, are bars without a
    place on that axis.

    Args:
        rows: measured; those without a score are left out.
        dataset: for the title.
        score: "PQ" or "ARI"; default: PQ if any row has it.
    """
    score = score or ("PQ" if any(row.score("panoptic/PQ") for row in rows) else "ARI")
    key, label, top = _SCORES[score]
    shown = [row for row in rows if row.score(key)]
    with_curves = [row for row in shown if _curves(row, score)]
    columns = 2 if with_curves else 1
    figure = Figure(figsize=(5.2 * columns + 0.4, 4.2), dpi=150, layout="constrained")
    figure.suptitle(f"{dataset}: {label}", color=_INK, fontsize=11)
    axes = list(figure.subplots(1, columns, squeeze=False)[0])
    style = {row.name: index for index, row in enumerate(shown)}
    if with_curves:
        _draw_curves(axes[0], with_curves, score, style)
    _draw_speeds(axes[-1], shown, key, style)
    highest = max((max(row.score(key)) for row in shown), default=top)
    for panel in axes:
        panel.set_ylim(0, min(top, max(1.2 * highest, 0.05 * top)))
        panel.set_ylabel(label, color=_MUTED, fontsize=9)
        _tidy(panel)
    handles, labels = axes[-1].get_legend_handles_labels()
    if handles:
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=min(len(labels), 3 * columns),
            frameon=False,
            fontsize=8.5,
            labelcolor=_INK,
        )
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()


def _draw_curves(panel: Axes, rows: Sequence[Row], score: str, style: dict[str, int]) -> None:
    for row in rows:
        curves = _curves(row, score)
        color, marker = _look(style[row.name])
        if len(curves) > 1:
            for minutes, values in curves:
                panel.plot(minutes, values, color=color, linewidth=0.8, alpha=0.35)
        # Seeds take the same steps, so their points correspond.
        length = min(len(values) for _, values in curves)
        minutes = np.mean([m[:length] for m, _ in curves], axis=0)
        values = np.mean([v[:length] for _, v in curves], axis=0)
        panel.plot(minutes, values, color=color, linewidth=1.8, marker=marker, markersize=4.5)
    panel.set_xlim(left=0)
    panel.set_xlabel("minutes of training steps", color=_MUTED, fontsize=9)


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


def _curves(row: Row, score: str) -> list[tuple[list[float], list[float]]]:
    """Minutes and values of every seed that was scored more than once in training."""
    curves = []
    for run in row.runs:
        points = [
            (point["seconds"] / 60, point[score])
            for point in run.curve
            if score in point and math.isfinite(point[score])
        ]
        if len(points) > 1:
            curves.append(([x for x, _ in points], [y for _, y in points]))
    return curves


def _look(index: int) -> tuple[str, str]:
    return _COLORS[index % len(_COLORS)], _MARKERS[index % len(_MARKERS)]


def _tidy(panel: Axes) -> None:
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.spines["bottom"].set_color(_GRID)
    panel.grid(axis="y", color=_GRID, linewidth=0.8)
    panel.set_axisbelow(True)
    panel.tick_params(which="both", length=0, labelcolor=_MUTED, labelsize=8.5)
