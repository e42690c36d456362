"""The picture of an ablation."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from slotseg.ablation.records import StudyRecord, TrialRecord
from slotseg.ablation.tables import score_text, score_title
from slotseg.comparison.records import mean_and_deviation

_COLORS = ("#2b63d9", "#d9662b", "#1f8a5b", "#a13fb8", "#b08900", "#1292a8", "#c2334d", "#6d7480")
_MARKERS = "osD^vPX*"
_INK, _MUTED, _GRID = "#1d2026", "#646a75", "#e2e3e0"
# Values of a curve whose largest is this many times the smallest are drawn on a logarithmic axis.
_LOGARITHMIC = 8.0


def draw_study(record: StudyRecord) -> bytes:
    """PNG: with a curve one panel a score, over its values, one line a variant; otherwise the
    variants as rows, the reference on top of a grey line, and the differences to it.

    Points are means over seeds with the sample deviation as bars; seeds are small dots. Variants
    without a score yet keep their place.
    """
    figure = _draw_curves(record) if record.plan.study.curve else _draw_rows(record)
    study, plan = record.plan.study, record.plan
    figure.suptitle(f"{study.name} ({plan.dataset}, {plan.budget})", color=_INK, fontsize=10)
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()


def _draw_rows(record: StudyRecord) -> Figure:
    # The first variant on top, as in the table.
    trials = record.trials[::-1]
    figure = Figure(figsize=(9.6, 0.5 * len(trials) + 1.7), dpi=150, layout="constrained")
    scores, differences = figure.subplots(1, 2, sharey=True)
    _draw_scores(scores, record, trials)
    _draw_differences(differences, record, trials)
    scores.set_yticks(range(len(trials)), [trial.variant.name for trial in trials])
    scores.set_ylim(-0.6, len(trials) - 0.4)
    for panel in (scores, differences):
        panel.margins(x=0.15)
        _tidy(panel, "x")
    return figure


def _draw_scores(panel: Axes, record: StudyRecord, trials: Sequence[TrialRecord]) -> None:
    score = record.plan.study.scores[0]
    for height, trial in enumerate(trials):
        values = trial.row.score(score)
        if not values:
            _write_absence(panel, trial, height)
            continue
        is_reference = trial.variant.name == record.plan.study.reference
        color = _MUTED if is_reference else _COLORS[0]
        mean, deviation = mean_and_deviation(values)
        if is_reference:
            panel.axvline(mean, color=_GRID, linewidth=1.2, zorder=0)
        panel.plot(values, [height] * len(values), "o", color=color, markersize=3.5, alpha=0.45)
        panel.errorbar(
            mean, height, xerr=deviation, color=color, marker="D", markersize=6, capsize=3
        )
        _write_above(panel, score_text(mean, score), mean, height)
    panel.set_xlabel(f"{score_title(score)}, deviation over seeds", color=_MUTED, fontsize=9)


def _draw_differences(panel: Axes, record: StudyRecord, trials: Sequence[TrialRecord]) -> None:
    score = record.plan.study.scores[0]
    panel.axvline(0.0, color=_MUTED, linewidth=1.0, zorder=0)
    for height, trial in enumerate(trials):
        found = trial.difference
        if found is None:
            continue
        color = _COLORS[2] if found.mean >= 0 else _COLORS[6]
        values = list(found.values.values())
        panel.plot(values, [height] * len(values), "o", color=color, markersize=3.5, alpha=0.45)
        panel.errorbar(
            found.mean, height, xerr=found.deviation, color=color, marker="D", markersize=6,
            capsize=3,
        )  # fmt: skip
        sign = "+" if found.mean >= 0 else "−"
        _write_above(panel, f"{sign}{score_text(abs(found.mean), score)}", found.mean, height)
    reference = record.plan.study.reference
    panel.set_xlabel(f"difference to {reference}, seed by seed", color=_MUTED, fontsize=9)


def _draw_curves(record: StudyRecord) -> Figure:
    study = record.plan.study
    count = len(study.scores)
    figure = Figure(figsize=(4.6 * count + 0.4, 4.2), dpi=150, layout="constrained")
    panels = figure.subplots(1, count, squeeze=False)[0]
    for panel, score in zip(panels, study.scores, strict=True):
        for index, variant in enumerate(study.variants):
            _draw_line(panel, record, variant.name, score, index)
        values = study.curve.values
        if values[0] > 0 and values[-1] / values[0] >= _LOGARITHMIC:
            panel.set_xscale("log")
            panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_xticks(values, [f"{value:g}" for value in values])
        panel.set_xlabel(study.curve.label, color=_MUTED, fontsize=9)
        panel.set_ylabel(score_title(score), color=_MUTED, fontsize=9)
        panel.set_ylim(bottom=min(0.0, panel.get_ylim()[0]))
        _tidy(panel, "y")
    handles, names = panels[0].get_legend_handles_labels()
    if handles:
        figure.legend(
            handles,
            names,
            loc="outside lower center",
            ncols=min(len(names), 4),
            frameon=False,
            fontsize=8.5,
            labelcolor=_INK,
        )
    return figure


def _draw_line(panel: Axes, record: StudyRecord, name: str, score: str, index: int) -> None:
    places, means, deviations = [], [], []
    color, marker = _COLORS[index % len(_COLORS)], _MARKERS[index % len(_MARKERS)]
    for trial in record.trials:
        values = trial.row.score(score) if trial.variant.name == name else []
        if not values:
            continue
        mean, deviation = mean_and_deviation(values)
        places.append(trial.value)
        means.append(mean)
        deviations.append(math.nan if deviation is None else deviation)
        panel.plot([trial.value] * len(values), values, "o", color=color, markersize=3, alpha=0.35)
    panel.errorbar(
        places,
        means,
        # A single seed has no deviation, and matplotlib draws none for NaN.
        yerr=np.asarray(deviations),
        color=color,
        marker=marker,
        markersize=6,
        linewidth=1.8,
        capsize=3,
        label=name,
    )


def _write_above(panel: Axes, text: str, place: float, height: int) -> None:
    panel.annotate(
        text,
        (place, height),
        xytext=(0, 7),
        textcoords="offset points",
        ha="center",
        color=_INK,
        fontsize=8,
    )


def _write_absence(panel: Axes, trial: TrialRecord, height: int) -> None:
    panel.annotate(
        "failed" if trial.failed else "not run yet",
        (0.03, height),
        xycoords=("axes fraction", "data"),
        va="center",
        color=_MUTED,
        fontsize=8,
    )


def _tidy(panel: Axes, grid: str) -> None:
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.spines["bottom"].set_color(_GRID)
    panel.grid(axis=grid, color=_GRID, linewidth=0.8)
    panel.set_axisbelow(True)
    panel.tick_params(which="both", length=0, labelcolor=_MUTED, labelsize=8.5)
