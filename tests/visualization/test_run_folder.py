"""A run is read as far as it is there; what is not is named."""

from __future__ import annotations

import json
import math

import pytest

from slotseg.errors import DatasetError
from slotseg.visualization import read_run_folder


def test_everything_is_read(tmp_path):
    (tmp_path / "config.yaml").write_text("SEED: 3\n")
    (tmp_path / "metrics.json").write_text(
        '{"iteration": 0, "total_loss": 2.0, "lr": 0.1}\n{"iteration": 1, "total_loss": 1.0}\n'
    )
    (tmp_path / "results.json").write_text(
        json.dumps({"a": {"slots": {"ARI": 0.5, "FG-ARI": None}}, "b": {"bbox": {"AP": 1}}})
    )
    (tmp_path / "run.json").write_text('{"seed": 3}')
    (tmp_path / "monitor.jsonl").write_text('{"iteration": 9}\n{"iteration": 4}\n')
    run = read_run_folder(str(tmp_path) + "/")
    assert run.name == tmp_path.name
    assert run.config == {"SEED": 3}
    assert run.curves["total_loss"].iterations == [0, 1]
    assert run.curves["total_loss"].values == [2.0, 1.0]
    assert run.results.keys() == {"a"}
    assert run.results["a"]["ARI"] == 0.5
    assert math.isnan(run.results["a"]["FG-ARI"])
    assert run.run == {"seed": 3}
    assert [look["iteration"] for look in run.monitor] == [4, 9]
    assert run.notes == []


def test_a_resumed_and_killed_run(tmp_path):
    (tmp_path / "metrics.json").write_text(
        '{"iteration": 10, "total_loss": 5.0}\n'
        '{"iteration": 20, "total_loss": NaN}\n'
        '{"iteration": 10, "total_loss": 4.0}\n'
        '{"iteration": "x", "total_loss": 1.0}\n'
        '{"iteration": 30, "total_lo'
    )
    run = read_run_folder(str(tmp_path))
    assert run.curves["total_loss"].iterations == [10]
    assert run.curves["total_loss"].values == [4.0]
    assert "metrics.json: 1 of 5 lines are damaged and left out." in run.notes
    missing = [note.split()[0] for note in run.notes if "is missing" in note]
    assert missing == ["config.yaml", "results.json", "run.json", "monitor.jsonl"]


@pytest.mark.parametrize(
    ("kind", "monitored", "expected"),
    [
        ("SlotSeg", False, True),
        ("StockPanopticFPN", False, False),
        ("RegisteredElsewhere", False, False),
        ("RegisteredElsewhere", True, True),
    ],
)
def test_slots_are_known_by_the_model_or_by_its_monitor(tmp_path, kind, monitored, expected):
    (tmp_path / "config.yaml").write_text(f"MODEL: {{META_ARCHITECTURE: {kind}}}\n")
    if monitored:
        (tmp_path / "monitor.jsonl").write_text('{"iteration": 9}\n')
    run = read_run_folder(str(tmp_path))
    assert run.has_slots is expected
    assert len(run.monitor) == monitored
    noted = any(note.startswith("monitor.jsonl is missing") for note in run.notes)
    assert noted == (expected and not monitored)


def test_damaged_files_are_named_not_raised(tmp_path):
    (tmp_path / "config.yaml").write_text("a: [1\n")
    (tmp_path / "results.json").write_text("{")
    (tmp_path / "run.json").write_text("[1]")
    (tmp_path / "metrics.json").write_bytes(b"\xff\xfe")
    run = read_run_folder(str(tmp_path))
    assert run.config_text == "a: [1\n"
    assert (run.config, run.results, run.run, run.curves) == ({}, {}, {}, {})
    for name in ("config.yaml", "results.json", "run.json", "metrics.json"):
        assert sum(note.startswith(name) for note in run.notes) == 1


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no such run folder"):
        read_run_folder(str(tmp_path / "none"))
    with pytest.raises(DatasetError, match="not the folder of a training run"):
        read_run_folder(str(tmp_path))
