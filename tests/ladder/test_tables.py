"""Tables, page and picture of a climb that nobody made."""

from __future__ import annotations

import io
import json
import math

import numpy as np
import pytest
from PIL import Image

from slotseg.comparison import Row, Run
from slotseg.ladder import Health, LadderRecord, RungRecord, draw_ladder, judge, ladder_table
from slotseg.ladder.page import ladder_page
from slotseg.ladder.records import PretrainingRecord
from slotseg.ladder.tables import rung_cells, rung_in_words, rung_state

ORANGE = (0xD9, 0x66, 0x2B)


def rung(name, scores, health, **numbers):
    """A rung with the ARI of seeds 0, 1, ...; None: the seed failed."""
    runs = [
        Run(seed=seed, error="out of memory")
        if score is None
        else Run(seed=seed, scores={"slots/ARI": score}, numbers=numbers)
        for seed, score in enumerate(scores)
    ]
    return RungRecord(name, "random", {"slots/ARI": 0.5}, Row(name, tuple(runs)), health)


GOOD = Health("healthy", ())
LOW = Health("warning", ("slots/ARI 0.3000 is under its gate 0.5",), ("slots are alike",))
RUNGS = (
    rung(
        "a", [0.6, 0.8], GOOD, step_seconds=0.25, steps=40, parameters=2e6, trained_parameters=5e5
    ),
    rung("b <i>", [None, None], Health("unknown", ("out of memory",))),
    rung("c", [0.3, None], LOW, step_memory_mib=512.4, seconds_an_image=0.02),
    RungRecord("d", "random", {}, Row("d", (Run(seed=0, error="not run"),))),
)
RECORD = LadderRecord(
    name="A & B",
    dataset="scenes",
    scores=("slots/ARI",),
    budget="5 minutes",
    memory_size=(512, 1024),
    pretraining=(PretrainingRecord("vit", "vit.yaml", "vit.pth", 100, 90.0, 3_000_000, "a CPU"),),
    rungs=RUNGS,
    stopped="d is not climbed because c is not healthy.",
)


def test_differences_are_of_seeds_that_both_rungs_have_and_skip_rungs_without_a_score():
    assert RECORD.below(0) is None
    assert RECORD.below(2) is RUNGS[0]
    mean, deviation = RUNGS[2].difference(RUNGS[0], "slots/ARI")
    assert (mean, deviation) == (pytest.approx(-0.3), None)
    # A score that is not defined is none.
    undefined = rung("u", [math.nan, 0.9], GOOD)
    mean, deviation = undefined.difference(RUNGS[0], "slots/ARI")
    assert (mean, deviation) == (pytest.approx(0.1), None)


def test_cells_say_what_is_known():
    cells = rung_cells(RECORD)
    rows = {row[0]: dict(zip(cells.headers, row, strict=True)) for row in cells.rows}
    assert rows["a"]["ARI"] == "0.700 ± 0.141"
    assert rows["a"]["Δ ARI"] == "–"
    assert rows["a"]["trained"] == "0.500 M"
    assert rows["a"]["memory at 512x1024"] == "–"
    assert rows["b <i>"]["health"] == "failed"
    assert rows["c"]["health"] == "warning, under its gate"
    assert rows["c"]["Δ ARI"] == "-0.300"
    assert rows["c"]["memory at 512x1024"] == "512 MiB"
    assert rows["c"]["ms/image"] == "20.0"
    assert rows["d"]["health"] == "not climbed"


def test_only_a_mean_under_its_gate_is_called_so():
    not_measured = Health("healthy", ("slots/ARI was not measured, and its gate is 0.5",))
    assert rung_state(rung("a", [math.nan], not_measured)) == "healthy"
    assert rung_state(RUNGS[2]) == "warning, under its gate"


def test_a_line_for_the_terminal_names_what_it_compares_with():
    assert rung_in_words(RECORD, 2) == "c: ARI 0.300 (-0.300 against a), warning, under its gate"
    assert rung_in_words(RECORD, 0) == "a: ARI 0.700 ± 0.141, healthy"


def test_markdown_and_page_hold_reasons_and_the_time_before_the_first_rung():
    text = ladder_table(RECORD)
    page = ladder_page(RECORD, b"picture")
    for told in (
        "d is not climbed because c is not healthy.",
        "c: slots/ARI 0.3000 is under its gate 0.5",
        "c, warning: slots are alike",
        "1.50",
    ):
        assert told in text
        assert told in page
    assert "b &lt;i&gt;" in page and "A &amp; B" in page and "<i>" not in page
    assert "| b <i>" in text
    json.dumps(RECORD.as_dict(), allow_nan=False)


def colors_of(record):
    with Image.open(io.BytesIO(draw_ladder(record))) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    return pixels.shape, (np.abs(pixels - ORANGE).sum(2) < 12).any()


def test_picture_shows_the_unhealthy_in_orange_and_memory_only_if_measured():
    shape, has_orange = colors_of(RECORD)
    assert has_orange
    without = LadderRecord("x", "scenes", ("slots/ARI",), "5 minutes", None, (), RUNGS[:1])
    narrower, has_orange = colors_of(without)
    assert not has_orange
    assert narrower[1] < 0.85 * shape[1]
    nothing = LadderRecord("x", "scenes", ("slots/ARI",), "5 minutes", None, (), RUNGS[3:])
    assert colors_of(nothing)[0][1] == narrower[1]


@pytest.mark.parametrize(
    ("lines", "verdict", "reason"),
    [
        (['{"verdict": "collapsed"}', '{"verdict": "healthy"}'], "healthy", None),
        (['{"verdict": "healthy"}', '{"verdict": "collapsed", "message": "alike"}'], "collapsed",
         "collapsed: alike"),
        (['{"verdict": "warning", "message": "close"}'], "warning", None),
        (['{"verdict": "warming up"}'], "unknown", "no verdict"),
        (['{"verdict": "heal'], "unknown", "no verdict"),
        ([], "unknown", "no verdict"),
    ],
)  # fmt: skip
def test_the_last_look_of_the_monitor_decides(tmp_path, lines, verdict, reason):
    (tmp_path / "monitor.jsonl").write_text("\n".join(lines))
    health = judge(Row("a", (Run(seed=0, scores={"slots/ARI": 0.6}),)), [str(tmp_path)], {})
    assert health.verdict == verdict
    assert health.is_safe is (reason is None)
    assert reason is None or reason in health.reasons[0]


def test_gates_want_a_mean_and_a_score_that_was_measured(tmp_path):
    (tmp_path / "monitor.jsonl").write_text('{"verdict": "healthy"}\n')
    row = Row("a", tuple(Run(seed=s, scores={"slots/ARI": v}) for s, v in enumerate((0.4, 0.7))))
    folders = [str(tmp_path)] * 2
    assert judge(row, folders, {"slots/ARI": 0.55}).is_safe
    (reason,) = judge(row, folders, {"slots/ARI": 0.56}).reasons
    assert reason == "slots/ARI 0.5500 is under its gate 0.56"
    (reason,) = judge(row, folders, {"panoptic/PQ": 1.0}).reasons
    assert reason.startswith("panoptic/PQ was not measured")
