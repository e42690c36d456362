"""Curves of a training run: what to plot, and how, as SVG that follows the page's colours.

The SVG holds no colour of its own: strokes and fills are CSS variables (``--ink``, ``--muted``,
``--grid``, ``--series-1`` ...), so that one picture is right on light and on dark pages.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import escape
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from slotseg.evaluation.quality_table import PANOPTIC
from slotseg.visualization.run_folder import SLOTS, Curve

NUM_COLORS = 8

# Stand-ins that Matplotlib can draw with; each is replaced by a CSS variable in the SVG.
_STAND_INS = {
    "--ink": "#010101",
    "--muted": "#010102",
    "--grid": "#010103",
    **{f"--series-{index + 1}": f"#0102{index + 1:02x}" for index in range(NUM_COLORS)},
}

# More points than this are averaged in groups: a page has no more pixels.
_MAX_POINTS = 400

_SCORES = ("ARI", "FG-ARI", "mBO", "mIoU")
_PANOPTIC_SCORES = ("PQ", "PQ_things", "PQ_stuff", "SQ", "RQ")
# Stands before the scores of a student, whose teacher has the plain names.
_STUDENT = "student"


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    curve: Curve


@dataclass(frozen=True)
class Chart:
    """What one chart shows.

    Attributes:
        title: a few words.
        note: one sentence on how to read it.
        series: its lines.
        log: logarithmic values; those that are not positive are left out.
        limits: smallest and largest value shown; None fits the values.
        levels: horizontal lines, (value, label).
    """

    title: str
    note: str
    series: list[Series]
    log: bool = False
    limits: tuple[float | None, float | None] = (None, None)
    levels: list[tuple[float, str]] = field(default_factory=list)


def run_charts(
    curves: Mapping[str, Curve],
    monitor: Sequence[Mapping[str, Any]] = (),
    *,
    similarity_levels: Sequence[tuple[float, str]] = (),
) -> list[Chart]:
    """The charts that a run has data for, in the order of a report.

    Args:
        curves: scalars of ``metrics.json`` by name.
        monitor: lines of ``monitor.jsonl``.
        similarity_levels: thresholds of the slot monitor, (value, label).
    """
    losses = [name for name in curves if _is_loss(name)]
    charts = [
        Chart(
            "Losses",
            "Weighted, as they are added up. Logarithmic.",
            _series(curves, sorted(losses, key=lambda name: (name != "total_loss", name))),
            log=True,
        ),
        Chart(
            "Losses on pseudo labels",
            "Weighted, but for the weight of pseudo labels as a whole. Logarithmic.",
            [
                Series(name.removeprefix("pseudo_"), curves[name])
                for name in sorted(curves)
                if name.startswith("pseudo_loss_")
            ],
            log=True,
        ),
        Chart(
            "Pseudo labels",
            "Share of the pixels that the student learns from, share that the teacher is unsure "
            "of, and how confident it is of the segments that are kept.",
            [
                Series(name, curves[f"pseudo/{name}"])
                for name in ("kept", "uncertain", "confidence")
                if f"pseudo/{name}" in curves
            ],
            limits=(0, 1),
        ),
        *_quality_charts(curves),
        *_score_charts(curves),
        Chart("Learning rate", "Of the first parameter group.", _series(curves, ["lr"])),
        Chart(
            "Slot similarity",
            "Mean cosine between two slots of an image. Near 1, all slots are alike: collapsed.",
            _monitor_series(monitor, ["similarity", "sibling_similarity", "seed_similarity"]),
            limits=(None, 1),
            levels=list(similarity_levels),
        ),
        Chart(
            "Mask entropy",
            "How undecided pixels are: 0, each belongs to one slot; 1, all masks are uniform.",
            _monitor_series(monitor, ["mask_entropy"]),
            limits=(0, 1),
        ),
        Chart(
            "Slots in use",
            "Slots that win at least one pixel, mean over the images looked at.",
            _monitor_series(monitor, ["slots_in_use", "seeded_slots"]),
            limits=(0, None),
        ),
        Chart(
            "Largest segment",
            "Share of the pixels that the largest slot of an image wins.",
            _monitor_series(monitor, ["largest_share"]),
            limits=(0, 1),
        ),
        Chart(
            "Gradient norms",
            "Of all parameters and of each part of the model, before clipping. Logarithmic.",
            [*_series(curves, ["grad_norm"], "all"), *_gradient_series(monitor)],
            log=True,
        ),
    ]
    return [chart for chart in charts if chart.series]


def draw_chart(chart: Chart, width: float = 4.6, height: float = 2.5) -> Figure:
    """The chart as a Matplotlib figure, in stand-in colours and without title or legend.

    Args:
        chart: what to draw.
        width: in inches of 100 pixels.
        height: in inches of 100 pixels.
    """
    figure = Figure(figsize=(width, height), dpi=100)
    axes = figure.add_axes((0.115, 0.115, 0.865, 0.86))
    for index, series in enumerate(chart.series):
        x, y = _thinned(series.curve, positive=chart.log)
        style = "-" if index < NUM_COLORS else "--"
        axes.plot(
            x,
            y,
            style,
            color=_STAND_INS[series_color(index)],
            linewidth=1.6,
            marker="o" if len(x) < 40 else None,
            markersize=3.2,
            solid_joinstyle="round",
        )
    _style_axes(axes, chart)
    return figure


def chart_svg(chart: Chart) -> str:
    """The chart as an ``<svg>`` element, to be put into a page as it is."""
    with mpl.rc_context(_TEXT):
        return figure_svg(draw_chart(chart), label=chart.title)


def figure_svg(figure: Figure, *, label: str) -> str:
    """A figure drawn in stand-in colours as an ``<svg>`` element that fills its place in a page.

    Args:
        figure: drawn with :func:`stand_in` colours.
        label: what it shows, for those who cannot see it; different for every figure of a page.
    """
    text = io.StringIO()
    # Element ids are hashed; different salts keep the figures of one page apart.
    with mpl.rc_context({**_TEXT, "svg.fonttype": "none", "svg.hashsalt": label}):
        FigureCanvasSVG(figure).print_svg(text, metadata=_NO_METADATA)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    # Fixed sizes would keep it from filling its place; the font is the page's.
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)
    for variable, color in _STAND_INS.items():
        svg = svg.replace(color, f"var({variable})")
    return svg


def stand_in(variable: str) -> str:
    """The colour to draw with where :func:`figure_svg` puts a CSS variable of the page."""
    return _STAND_INS[variable]


def series_color(index: int) -> str:
    """CSS variable of line number ``index``; colours repeat, dashed, after the last."""
    return f"--series-{index % NUM_COLORS + 1}"


_TEXT = {"font.family": "sans-serif", "font.size": 8.5}
_NO_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}


def _style_axes(axes: Any, chart: Chart) -> None:
    if chart.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if _narrow(chart) else (1.0,)))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.4g}")
    axes.margins(x=0.01, y=0.08)
    axes.set_ylim(*chart.limits)
    for value, label in chart.levels:
        axes.axhline(value, color=_STAND_INS["--muted"], linewidth=0.9, linestyle=(0, (4, 3)))
        axes.annotate(
            label,
            (0.995, value),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            color=_STAND_INS["--muted"],
            fontsize=7.5,
        )
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_STAND_INS["--grid"])
    axes.grid(axis="y", color=_STAND_INS["--grid"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, labelcolor=_STAND_INS["--muted"])
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(lambda value, _: short_count(value))
    axes.patch.set_visible(False)
    axes.figure.patch.set_visible(False)


def _narrow(chart: Chart) -> bool:
    """Whether the values span too little for one tick a power of ten."""
    values = [value for series in chart.series for value in series.curve.values if value > 0]
    return bool(values) and max(values) < 100 * min(values)


def short_count(value: float) -> str:
    """1500 as "1.5k", 2000000 as "2M"."""
    for size, suffix in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:g}"


def _thinned(curve: Curve, positive: bool) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(curve.iterations, float), np.asarray(curve.values, float)
    if positive:
        x, y = x[y > 0], y[y > 0]
    if len(x) <= _MAX_POINTS:
        return x, y
    groups = np.array_split(np.arange(len(x)), _MAX_POINTS)
    return np.array([x[g].mean() for g in groups]), np.array([y[g].mean() for g in groups])


def _is_loss(name: str) -> bool:
    return name == "total_loss" or name.startswith("loss_")


def _series(curves: Mapping[str, Curve], names: Iterable[str], label: str = "") -> list[Series]:
    return [Series(label or name, curves[name]) for name in names if name in curves]


def _score_charts(curves: Mapping[str, Curve]) -> list[Chart]:
    """Slot scores, one chart a data set."""
    return [
        Chart(
            f"Scores{_of_what(dataset)}",
            "At every evaluation. 1 is perfect.",
            series,
            limits=(None, 1),
        )
        for dataset, series in _series_by_dataset(curves, SLOTS, _SCORES)
    ]


def _quality_charts(curves: Mapping[str, Curve]) -> list[Chart]:
    """Panoptic quality, one chart a data set."""
    return [
        Chart(
            f"Panoptic quality{_of_what(dataset)}",
            "At every evaluation, in percent.",
            series,
            limits=(0, None),
        )
        for dataset, series in _series_by_dataset(curves, PANOPTIC, _PANOPTIC_SCORES)
    ]


def _of_what(prefix: str) -> str:
    """The data set and whose scores they are, from what stands before the task's name."""
    dataset, _, student = prefix.rpartition("/")
    if student != _STUDENT:
        dataset, student = prefix, ""
    return (" of the student" if student else "") + (f" on {dataset}" if dataset else "")


def _series_by_dataset(
    curves: Mapping[str, Curve], task: str, scores: Sequence[str]
) -> list[tuple[str, list[Series]]]:
    """Curves of a task; with a single data set they are logged without its name."""
    prefixes = []
    for name in curves:
        prefix, found, score = name.rpartition(f"{task}/")
        if found and score in scores and prefix not in prefixes:
            prefixes.append(prefix)
    return [
        (
            prefix.rstrip("/"),
            [
                Series(score.replace("_", " "), curves[f"{prefix}{task}/{score}"])
                for score in scores
                if f"{prefix}{task}/{score}" in curves
            ],
        )
        for prefix in prefixes
    ]


def _monitor_series(monitor: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Series]:
    series = [Series(name.replace("_", " "), _points(monitor, name)) for name in names]
    return [line for line in series if line.curve.values]


def _gradient_series(monitor: Sequence[Mapping[str, Any]]) -> list[Series]:
    looks = [
        {"iteration": look.get("iteration"), **look["grad_norms"]}
        for look in monitor
        if isinstance(look.get("grad_norms"), Mapping)
    ]
    names = dict.fromkeys(name for look in looks for name in look if name != "iteration")
    return _monitor_series(looks, list(names))


def _points(lines: Sequence[Mapping[str, Any]], name: str) -> Curve:
    points = {
        int(line["iteration"]): float(line[name])
        for line in lines
        if isinstance(line.get("iteration"), int)
        and isinstance(line.get(name), int | float)
        and math.isfinite(line[name])
    }
    return Curve(sorted(points), [points[iteration] for iteration in sorted(points)])
