"""tools/evaluate_panoptic.py as users run it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from slotseg.panoptic_png import write_id_map


@pytest.fixture
def arguments(tmp_path):
    """A set of two images: one half right, one without a prediction."""
    truth, pred = np.zeros((2, 4, 6), np.int32)
    truth[:, :3], truth[:, 3:] = 1, 2
    pred[:, :3], pred[2:, 3:] = 7, 9
    categories = [{"id": 3, "name": "car", "isthing": 1}, {"id": 8, "name": "road", "isthing": 0}]
    truth_segments = [{"id": 1, "category_id": 3, "iscrowd": 0}, {"id": 2, "category_id": 8}]
    pred_segments = [{"id": 7, "category_id": 3}, {"id": 9, "category_id": 8}]
    names = ["a.png", "b.png"]
    for side, ids, segments, count in (
        ("gt", truth, truth_segments, 2),
        ("pred", pred, pred_segments, 1),
    ):
        entries = [
            {"image_id": name[:1], "file_name": name, "segments_info": segments}
            for name in names[:count]
        ]
        content = {"annotations": entries, "categories": categories}
        (tmp_path / f"{side}.json").write_text(json.dumps(content))
        for name in names[:count]:
            write_id_map(str(tmp_path / side / name), ids)
    return ["--gt-json", "gt.json", "--gt-dir", "gt", "--pred-json", "pred.json"] + [
        "--pred-dir", "pred",
    ]  # fmt: skip


def test_table_and_file(start_tool, arguments, tmp_path):
    run = start_tool(
        "evaluate_panoptic.py",
        *arguments,
        "--allow-subset",
        "--workers",
        2,
        "--output",
        "out/s.json",
    )
    assert run.finish() == 0, run.err
    lines = [line.split() for line in run.out.splitlines()]
    assert "Panoptic quality in percent, 2 classes, 1 of 2 images" in run.out
    assert ["car", "thing", "100.00", "100.00", "100.00", "1", "0", "0"] in lines
    assert ["road", "stuff", "0.00", "0.00", "0.00", "0", "1", "1"] in lines
    assert ["all", "2", "classes", "50.00", "50.00", "50.00", "1", "1", "1"] in lines
    assert json.loads((tmp_path / "out" / "s.json").read_text())["groups"]["all"]["pq"] == 0.5


def test_a_missing_prediction_is_one_line(start_tool, arguments, tmp_path):
    run = start_tool("evaluate_panoptic.py", *arguments, "--output", "s.json")
    assert run.finish() == 1
    assert run.out == ""
    assert run.err.startswith("error: pred.json: no prediction for 1 images (b)")
    assert run.err.count("\n") == 1
    assert not (tmp_path / "s.json").exists()
