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
