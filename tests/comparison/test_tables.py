"""Rows to tables and pictures: values, what is missing, and what was only read."""

from __future__ import annotations

import csv
import io
import json
import math

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from slotseg.comparison import (
    Row,
    Run,
    csv_table,
    draw_comparison,
    load_published,
    markdown_table,
    published_names,
    read_added,
)
from slotseg.comparison.records import NOT_RUN
from slotseg.errors import ConfigError, DatasetError


def run(seed, quality, **changes):
    parts = {
        "scores": {
            "panoptic/PQ": quality,
            "panoptic/SQ": 80.0,
            "panoptic/RQ": 40.0,
            "panoptic/PQ_things": math.nan,
            "panoptic/classes": 19.0,
        },
        "numbers": {
            "parameters": 1_234_567,
            "seconds_an_image": 0.05,
            "step_seconds": 0.25,
            "steps": 2400,
            "train_seconds": 600.0,
            "inference_memory_mib": 800.4,
        },
        "input_size": (128, 256),
        "curve": [{"seconds": 300.0, "PQ": quality / 2}, {"seconds": 600.0, "PQ": quality}],
        "origin": {"command": "tools/compare.py", "machine": "a CPU", "date": "2026-01-01"},
    }
    return Run(seed, **(parts | changes))


ROWS = [
    Row("slots", (run(0, 30.0), run(1, 32.0), run(2, 37.0))),
    Row("fpn | r50", (run(0, 25.0, numbers={"seconds_an_image": 0.5}),)),
    Row("half", (run(0, 20.0), Run(1, error="out of memory"))),
    Row("none", (Run(0, error="no weights"),)),
    Row("forest", (Run(0, scores={"panoptic/PQ": 9.5}),), added=True),
]


def cells(text):
    """Markdown table rows by name."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    split = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    head, rows = split[0], {row[0]: row for row in split[2:]}
    return {name: dict(zip(head, row, strict=True)) for name, row in rows.items()}


def test_markdown_has_means_deviations_and_reasons():
    text = markdown_table(ROWS, dataset="streets", minutes=10)
    assert text.startswith("## Measured on streets, each trained for 10 minutes\n")
    table = cells(text)
    # Sample deviation of 30, 32, 37.
    assert table["slots"]["PQ"] == "33.00 ± 3.61"
    assert table["slots"]["SQ"] == "80.00 ± 0.00"
    assert table["slots"]["parameters"] == "1.23 M"
    assert table["slots"]["images/s"] == "20.0"
    assert table["slots"]["s/step"] == "0.250"
    assert table["slots"]["training min"] == "10.0"
    assert table["slots"]["inference memory"] == "800 MiB"
    assert table["slots"]["input"] == "128x256"
    assert table["slots"]["classes"] == "19"
    assert table["fpn / r50"]["PQ"] == "25.00"
    assert table["fpn / r50"]["parameters"] == "–"
    assert table["half"]["PQ"] == "20.00"
    assert table["none"]["PQ"] == "failed"
    assert table["forest"]["RQ"] == "–"
    # No model has things or was measured in training memory: no empty columns.
    assert not {"PQ things", "training memory", "ARI"} & table["slots"].keys()
    assert "- half: seed 1: out of memory\n- none: no weights" in text
    assert "- slots, fpn | r50, half: `tools/compare.py` on a CPU" in text
    assert "Published" not in text
    assert "another time than planned" not in text
    twice = markdown_table(ROWS, dataset="streets", minutes=5)
    assert "- slots: 10.0 instead of 5 minutes" in twice


def test_what_is_still_to_be_run_has_not_failed():
    rows = [*ROWS[2:3], Row("later", (run(0, 30.0, error=NOT_RUN), run(1, 31.0, error=NOT_RUN)))]
    text = markdown_table(rows, dataset="streets", minutes=10)
    failed, _, unfinished = text.partition("### Not finished yet")
    assert "- half: seed 1: out of memory" in failed
    assert "- later" not in failed
    assert "- later: seed 0: not run\n- later: seed 1: not run" in unfinished
    nothing_yet = cells(markdown_table([Row("later", (Run(0, error=NOT_RUN),))], dataset="streets"))
    assert nothing_yet["later"]["PQ"] == "–"


def test_the_processor_is_told_of_where_it_was_the_clock():
    numbers = {
        "seconds_an_image": 0.1,
        "processor_seconds_an_image": 0.15,
        "train_seconds": 600.0,
        "train_processor_seconds": 300.0,
        "step_processor_seconds": 0.125,
        "steps": 2400,
    }
    rows = [Row("slots", (run(0, 30.0, numbers=numbers),))]
    text = markdown_table(
        rows, dataset="streets", minutes=5, clock="processor", chosen=["slots: SOLVER.BASE_LR 1"]
    )
    assert "each trained for 5 processor minutes" in text
    assert "### Chosen beforehand\n\n- slots: SOLVER.BASE_LR 1\n" in text
    assert "another time than planned" not in text
    (row,) = cells(text).values()
    assert (row["processor ms/image"], row["processor s/step"]) == ("150", "0.125")
    assert (row["processor min"], row["training min"]) == ("5.00", "10.0")
    on_wall = markdown_table(rows, dataset="streets", minutes=10)
    assert "processor" not in on_wall
    assert float(next(csv.DictReader(io.StringIO(csv_table(rows))))["train_processor_minutes"]) == 5
    late = markdown_table(rows, dataset="streets", minutes=4, clock="processor")
    assert "- slots: 5.00 instead of 4 processor minutes" in late


def test_csv_has_full_precision_and_empty_cells():
    rows = list(csv.DictReader(io.StringIO(csv_table(ROWS))))
    assert [row["model"] for row in rows] == [row.name for row in ROWS]
    assert float(rows[0]["PQ"]) == 33.0
    assert float(rows[0]["PQ_sd"]) == pytest.approx(math.sqrt(13), rel=1e-12)
    assert rows[0]["seeds"] == "0 1 2"
    assert rows[1]["PQ_sd"] == ""
    assert rows[2]["error"] == "seed 1: out of memory"
    assert rows[3]["PQ"] == rows[3]["parameters"] == ""
    assert float(rows[0]["train_minutes"]) == 10


def test_published_figures_stand_apart_with_source_and_protocol():
    figures = load_published("cityscapes")
    measured, _, published = markdown_table(ROWS, dataset="streets", published=[figures]).partition(
        "## Published, not measured here: Cityscapes val"
    )
    assert "weights as given" in measured
    for row in figures.rows:
        assert row.method not in measured
        assert f"{row.scores['PQ']:g}" in published
        assert row.source in published
    assert figures.protocol in published


@pytest.mark.parametrize("name", published_names())
def test_every_published_figure_is_whole(name):
    figures = load_published(name)
    assert figures.title
    assert figures.protocol
    for row in figures.rows:
        assert row.method
        assert row.source
        assert row.scores
        assert all(0 < value <= 200 for value in row.scores.values())


def test_unknown_published_set():
    with pytest.raises(ConfigError, match="choose cityscapes, coco"):
        load_published("mars")


def test_added_rows(tmp_path):
    path = tmp_path / "forest.json"
    entry = {"name": "forest", "panoptic": {"PQ": 9.5, "PQ-road": None}, "seed": 4, "machine": "m"}
    path.write_text(json.dumps(entry))
    row = read_added(str(path))
    assert row.added
    assert row.score("panoptic/PQ") == [9.5]
    assert row.score("panoptic/PQ-road") == []
    assert row.runs[0].seed == 4
    for text in ("{", "[]", '{"name": "x"}', '{"panoptic": {"PQ": 1}}'):
        path.write_text(text)
        with pytest.raises(DatasetError, match=r"forest\.json: not "):
            read_added(str(path))
    with pytest.raises(DatasetError, match="cannot be read"):
        read_added(str(tmp_path / "none.json"))


def picture(rows):
    with Image.open(io.BytesIO(draw_comparison(rows, dataset="streets"))) as image:
        return np.asarray(image.convert("RGB"))


def test_picture_has_two_panels_with_curves_and_one_without():
    both = picture(ROWS)
    one = picture([Row("a", (run(0, 20.0, curve=[]),)), ROWS[-1]])
    assert both.shape[1] > 1.8 * one.shape[1]
    # The first model's blue is on both sides.
    blue = (np.abs(both.astype(int) - (0x2B, 0x63, 0xD9)).sum(2) < 12).any(0)
    assert blue[: len(blue) // 2].any()
    assert blue[len(blue) // 2 :].any()


def test_things_and_stuff_have_panels_where_they_were_followed():
    def curve(*qualities):
        return [
            {"seconds": 60.0 * n, "PQ": q, "PQ_things": q / 2, "PQ_stuff": 2 * q}
            for n, q in enumerate(qualities, 1)
        ]

    quality = {"panoptic/PQ": 12.0, "panoptic/PQ_things": 6.0, "panoptic/PQ_stuff": 24.0}
    seeds = (run(0, 9.0, curve=curve(5, 9)), run(1, 12.0, curve=curve(8, 12)))
    row = Row("slots", tuple(Run(r.seed, quality, r.numbers, curve=r.curve) for r in seeds))
    drawn = picture([row])
    assert drawn.shape[0] > 1.6 * picture(ROWS).shape[0]
    # The band between the seeds is a light blue.
    light = np.abs(drawn.astype(int) - (0xD9, 0xE3, 0xF8)).sum(2) < 12
    assert light.sum() > 200


def test_a_curve_that_falls_stays_in_its_panel(monkeypatch):
    tops, own = [], Axes.set_ylim

    def noted(panel, *limits, **others):
        tops.extend(limits[1:])
        return own(panel, *limits, **others)

    monkeypatch.setattr(Axes, "set_ylim", noted)
    curve = [{"seconds": 60.0, "PQ": 40.0}, {"seconds": 120.0, "PQ": 20.0}]
    picture([Row("slots", (run(0, 20.0, curve=curve),))])
    # Over time, and against speed.
    assert len(tops) == 2 and min(tops) > 40


def test_picture_without_any_score():
    assert picture([ROWS[3]]).size
