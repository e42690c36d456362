"""Scores as files and tables."""

import json
import math

from slotseg.engine.results import flatten_results, format_results, write_results

RESULTS = {
    "set_a": {"slots": {"ARI": 0.51234, "FG-ARI": math.nan, "images": 320.0}},
    "set_b": {"slots": {"ARI": 1.0}},
}


def test_file_is_valid_json(tmp_path):
    path = tmp_path / "deep" / "results.json"
    write_results(RESULTS, str(path))
    read = json.loads(path.read_text(), parse_constant=lambda name: 1 / 0)
    assert read["set_a"]["slots"] == {"ARI": 0.51234, "FG-ARI": None, "images": 320.0}


def test_flat_names_skip_what_is_no_number():
    tasks = {"slots": {"ARI": 0.5, "source": "decoder"}}
    assert flatten_results(tasks) == {"slots/ARI": 0.5}


def test_table():
    rows = [line.split() for line in format_results(RESULTS).splitlines()]
    assert rows[0] == ["score", "set_a", "set_b"]
    assert rows[2:] == [
        ["slots/ARI", "0.5123", "1.0000"],
        ["slots/FG-ARI", "-", "-"],
        ["slots/images", "320", "-"],
    ]


def test_panoptic_quality_has_a_table_of_its_own():
    panoptic = {
        "PQ": 41.234, "SQ": 80.0, "RQ": 50.0,
        "PQ_stuff": 60.0, "SQ_stuff": 70.0, "RQ_stuff": math.nan,
        "classes": 19.0, "images": 10.0, "images_expected": 500.0,
        "PQ-road": 90.0, "SQ-road": 90.0, "RQ-road": 100.0,
    }  # fmt: skip
    lines = format_results({"streets": {"panoptic": panoptic}}).splitlines()
    assert lines[0] == "streets: panoptic quality in percent, 19 classes, 10 of 500 images"
    rows = [line.split() for line in lines[2:]]
    assert rows[0] == ["classes", "PQ", "SQ", "RQ"]
    assert rows[2:] == [["all", "41.23", "80.00", "50.00"], ["stuff", "60.00", "70.00", "-"]]
    # With slot scores besides, both are there.
    both = format_results({"streets": {"panoptic": panoptic, **RESULTS["set_b"]}})
    assert "slots/ARI" in both
    assert "panoptic quality" in both
    # A student has one besides that of its teacher.
    two = format_results({"streets": {"panoptic": panoptic, "student/panoptic": panoptic}})
    titles = [line.split(":")[0] for line in two.splitlines() if "panoptic quality" in line]
    assert titles == ["streets", "streets, student"]
    assert "student/panoptic" not in two
    # The writers and TEST.BEST_METRIC see plain names.
    assert flatten_results({"panoptic": panoptic})["panoptic/PQ"] == 41.234
