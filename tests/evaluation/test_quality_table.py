"""Flat panoptic scores as rows."""

from __future__ import annotations

import math

import pytest

from slotseg.classes import ClassSet
from slotseg.evaluation.panoptic_quality import PanopticCounts
from slotseg.evaluation.panoptic_report import PanopticReport
from slotseg.evaluation.quality_table import quality_table


def test_rows_of_a_real_report():
    classes = ClassSet(("traffic-light", "car", "sky"), (True, True, False), (1, 2, 3))
    counts = PanopticCounts([0, 2**53, 0], [0, 1, 0], [0, 1, 0], [0, 0, 2], images=3)
    table = quality_table(PanopticReport.from_counts(classes, counts, 5).scores())
    assert [row.name for row in table.groups] == ["all", "things", "stuff"]
    assert [row.name for row in table.classes] == list(classes.names)
    light, car, sky = (row.scores for row in table.classes)
    assert all(math.isnan(value) for value in light.values())
    assert car["SQ"] == 100.0
    assert car["PQ"] == car["RQ"] == pytest.approx(100 / 1.5)
    assert sky == {"PQ": 0.0, "SQ": 0.0, "RQ": 0.0}
    assert table.groups[0].scores["PQ"] == pytest.approx(50 / 1.5)
    assert table.setting == "2 classes, 3 of 5 images"


def test_null_and_missing_scores():
    table = quality_table({"PQ": None, "PQ_things": 3.0, "images": 4.0, "images_expected": 4.0})
    assert [row.name for row in table.groups] == ["all", "things"]
    assert math.isnan(table.groups[0].scores["PQ"])
    assert table.groups[1].scores["PQ"] == 3.0
    assert math.isnan(table.groups[1].scores["SQ"])
    assert table.classes == []
    assert table.setting == "4 images"
