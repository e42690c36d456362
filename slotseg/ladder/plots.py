"""The picture of a ladder: what every rung scores and what it costs."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from slotseg.comparison.records import mean_and_deviation
from slotseg.comparison.texts import digits
from slotseg.ladder.records import LadderRecord, RungRecord
from slotseg.ladder.tables import rung_state, score_title

_BLUE, _LIGHT, _ORANGE = "#2b63d9", "#b9ccf3", "#d9662b"
_INK, _MUTED, _GRID = "#1d2026", "#646a75", "#e2e3e0"


def draw_ladder(record: LadderRecord) -> bytes:
    """PNG with the rungs as rows, the lowest at the bottom, and one panel a quantity.

    The score with its seeds as dots and the deviation as a bar, orange where the rung is not
    healthy; seconds a step; parameters, the frozen ones lighter; the memory of a training step,
    if it was measured. Rungs that were not tried keep their row.
    """
    with_memory = record.memory_size is not None
    columns = 4 if with_memory else 3
    rungs = record.rungs
    figure = Figure(
        figsize=(3.0 * columns + 1.6, 0.5 * len(rungs) + 1.7), dpi=150, layout="constrained"
    )
    figure.suptitle(f"{record.name} ({record.budget})", color=_INK, fontsize=11)
    panels = list(figure.subplots(1, columns, squeeze=False, sharey=True)[0])
    _draw_scores(panels[0], record)
    _draw_bars(panels[1], rungs, "step_seconds", "seconds a training step", 1.0)
    _draw_parameters(panels[2], rungs)
    if with_memory:
        label = "GiB, training step at {}x{}".format(*record.memory_size)
        _draw_bars(panels[3], rungs, "step_memory_mib", label, 1 / 1024)
    panels[0].set_yticks(range(len(rungs)), [rung.name for rung in rungs])
    panels[0].set_ylim(-0.6, len(rungs) - 0.4)
    for panel in panels:
        _tidy(panel)
    for label, rung in zip(panels[0].get_yticklabels(), rungs, strict=True):
        label.set_color(_INK if rung.was_tried else _MUTED)
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()


def _draw_scores(panel: Axes, record: LadderRecord) -> None:
    score = record.scores[0]
    means: list[tuple[float, int]] = []
    for height, rung in enumerate(record.rungs):
        values = rung.row.score(score)
        if not values:
            _write_absence(panel, rung, height)
            continue
        mean, deviation = mean_and_deviation(values)
        means.append((mean, height))
        safe = rung.health is None or rung.health.is_safe
        color = _BLUE if safe else _ORANGE
        panel.plot(values, [height] * len(values), "o", color=color, markersize=3.5, alpha=0.45)
        panel.errorbar(
            mean, height, xerr=deviation, color=color, marker="D", markersize=6, capsize=3
        )
        panel.annotate(
            f"{mean:.2f}" if score.startswith("panoptic/") else f"{mean:.3f}",
            (mean, height),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            color=_INK,
            fontsize=8,
        )
        gate = rung.gate.get(score)
        if gate is not None:
            # The gate as a post that the score has to be right of.
            panel.plot([gate, gate], [height - 0.28, height + 0.28], color=_MUTED, linewidth=1.2)
    if means:
        panel.plot(*zip(*means, strict=True), color=_GRID, linewidth=1.2, zorder=0)
    panel.margins(x=0.15)
    notes = [score_title(score)]
    if any(score in rung.gate for rung in record.rungs):
        notes.append("bars: gates")
    if any(rung.health is not None and not rung.health.is_safe for rung in record.rungs):
        notes.append("orange: not healthy")
    panel.set_xlabel(", ".join(notes), color=_MUTED, fontsize=9)


def _write_absence(panel: Axes, rung: RungRecord, height: int) -> None:
    panel.annotate(
        rung_state(rung),
        (0.03, height),
        xycoords=("axes fraction", "data"),
        va="center",
        color=_MUTED,
        fontsize=8,
    )


def _draw_bars(
    panel: Axes, rungs: Sequence[RungRecord], name: str, label: str, scale: float
) -> None:
    for height, rung in enumerate(rungs):
        value = rung.row.number(name)
        if value is not None:
            panel.barh(height, value * scale, height=0.55, color=_BLUE)
            _write_value(panel, value * scale, height, digits(value * scale))
    _finish_bars(panel, label)


def _draw_parameters(panel: Axes, rungs: Sequence[RungRecord]) -> None:
    for height, rung in enumerate(rungs):
        total, trained = rung.row.number("parameters"), rung.row.number("trained_parameters")
        if total is None:
            continue
        trained = total if trained is None else trained
        panel.barh(height, trained / 1e6, height=0.55, color=_BLUE)
        panel.barh(height, (total - trained) / 1e6, left=trained / 1e6, height=0.55, color=_LIGHT)
        _write_value(panel, total / 1e6, height, digits(total / 1e6))
    _finish_bars(panel, "million parameters (light: frozen)")


def _write_value(panel: Axes, value: float, height: int, text: str) -> None:
    panel.annotate(
        text,
        (value, height),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        color=_INK,
        fontsize=8,
    )


def _finish_bars(panel: Axes, label: str) -> None:
    panel.margins(x=0.22)
    panel.set_xlim(left=0)
    panel.set_xlabel(label, color=_MUTED, fontsize=9)


def _tidy(panel: Axes) -> None:
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.spines["bottom"].set_color(_GRID)
    panel.grid(axis="x", color=_GRID, linewidth=0.8)
    panel.set_axisbelow(True)
    panel.tick_params(which="both", length=0, labelcolor=_MUTED, labelsize=8.5)
