"""Charts hold the run's data, and their SVG takes its colours from the page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from slotseg.visualization.plots import (
    Chart,
    Series,
    chart_svg,
    draw_chart,
    run_charts,
    short_count,
)
from slotseg.visualization.run_folder import Curve


def curve(*values: float) -> Curve:
    return Curve(list(range(len(values))), list(values))


CURVES = {
    "lr": curve(0.1, 0.2),
    "loss_b": curve(2, 1),
    "loss_a": curve(3, 1),
    "total_loss": curve(5, 2),
    "grad_norm": curve(1, 2),
    "slots/ARI": curve(0.5, 0.9),
    "slots/mIoU": curve(0.4, 0.8),
    "slots/height": curve(128, 128),
    "time": curve(1, 1),
}
MONITOR = [
    {"iteration": 0, "similarity": 0.9, "slots_in_use": 1, "grad_norms": {"slots": 1.0}},
    {"iteration": 5, "similarity": float("nan"), "slots_in_use": 4, "grad_norms": {"slots": 2.0}},
]


def by_title(charts: list[Chart]) -> dict[str, list[str]]:
    return {chart.title: [series.name for series in chart.series] for chart in charts}


def test_a_run_gets_the_charts_it_has_data_for():
    assert by_title(run_charts(CURVES, MONITOR)) == {
        "Losses": ["total_loss", "loss_a", "loss_b"],
        "Scores": ["ARI", "mIoU"],
        "Learning rate": ["lr"],
        "Slot similarity": ["similarity"],
        "Slots in use": ["slots in use"],
        "Gradient norms": ["all", "slots"],
    }
    assert run_charts({}) == []


def test_several_data_sets_get_a_chart_each():
    curves = {"a/slots/ARI": curve(1), "b/slots/ARI": curve(0.5), "b/slots/mBO": curve(0.4)}
    assert by_title(run_charts(curves)) == {"Scores on a": ["ARI"], "Scores on b": ["ARI", "mBO"]}


def test_pseudo_labels_and_a_student_have_charts_of_their_own():
    curves = {
        "panoptic/PQ": curve(10, 20),
        "student/panoptic/PQ": curve(9, 18),
        "a/student/slots/ARI": curve(0.1),
        "pseudo/kept": curve(0.2, 0.7),
        "pseudo/kept_car": curve(0.1, 0.2),
        "pseudo_loss_mask": curve(3, 2),
        "loss_mask": curve(2, 1),
    }
    assert by_title(run_charts(curves)) == {
        "Losses": ["loss_mask"],
        "Losses on pseudo labels": ["loss_mask"],
        "Pseudo labels": ["kept"],
        "Panoptic quality": ["PQ"],
        "Panoptic quality of the student": ["PQ"],
        "Scores of the student on a": ["ARI"],
    }


def test_values_that_are_not_finite_are_left_out():
    similarity = next(c for c in run_charts({}, MONITOR) if c.title == "Slot similarity")
    assert similarity.series[0].curve == Curve([0], [0.9])


def test_thresholds_are_drawn():
    charts = run_charts({}, MONITOR, similarity_levels=[(0.8, "collapsed")])
    chart = next(c for c in charts if c.title == "Slot similarity")
    assert ">collapsed<" in chart_svg(chart)


def test_figure_shows_the_values():
    axes = draw_chart(run_charts(CURVES)[0]).axes[0]
    assert [list(line.get_ydata()) for line in axes.get_lines()] == [[5, 2], [3, 1], [2, 1]]
    assert axes.get_yscale() == "log"


def test_logarithms_leave_out_zero_and_long_curves_are_thinned():
    long = Curve(list(range(5000)), [0.0] + [1.0] * 4999)
    line = draw_chart(Chart("t", "n", [Series("s", long)], log=True)).axes[0].get_lines()[0]
    assert 100 < len(line.get_xdata()) <= 400
    assert (line.get_ydata() == 1).all()


def test_svg_is_well_formed_refers_to_nothing_and_has_no_colour_of_its_own():
    svg = chart_svg(run_charts(CURVES)[0])
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    assert root.get("viewBox")
    assert root.get("width") is None
    assert "var(--series-3)" in svg
    assert re.findall(r"#[0-9a-fA-F]{6}\b", svg) == []
    assert re.findall(r"<metadata|<image|<style[^>]*src", svg) == []
    assert re.findall(r'href="(?!#)', svg) == []
    assert svg == chart_svg(run_charts(CURVES)[0])


def test_odd_names_and_values_do_not_break_the_svg():
    chart = Chart('Scores on "a<b>&c"', "n", [Series("$x_", curve(0, 0))], log=True)
    root = ElementTree.fromstring(chart_svg(chart))
    assert root.get("aria-label") == chart.title


def test_ids_of_two_charts_do_not_clash():
    first, second = (chart_svg(chart) for chart in run_charts(CURVES)[:2])
    ids = [set(re.findall(r"url\(#([^)]+)\)", svg)) for svg in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_more_lines_than_colours_are_dashed():
    chart = Chart("t", "n", [Series(str(i), curve(i, i)) for i in range(9)])
    styles = [line.get_linestyle() for line in draw_chart(chart).axes[0].get_lines()]
    assert styles == ["-"] * 8 + ["--"]


def test_short_counts():
    assert [short_count(v) for v in (0, 999, 1500, 2_000_000)] == ["0", "999", "1.5k", "2M"]
