"""Seeds that run at once agree on how long a step takes."""

from __future__ import annotations

import json

import pytest

from slotseg.comparison import job


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_the_first_seed_decides_and_leaves_nothing_else(tmp_path, monkeypatch, links):
    def refuse(*_):
        raise PermissionError("no links here")

    if not links:
        monkeypatch.setattr(job.os, "link", refuse)
    path = tmp_path / "rung" / "budget.json"
    job._note_once(str(path), {"step_seconds": 0.5})
    assert json.loads(path.read_text()) == {"step_seconds": 0.5}
    if links:
        job._note_once(str(path), {"step_seconds": 0.7})
        assert json.loads(path.read_text()) == {"step_seconds": 0.5}
    assert [entry.name for entry in path.parent.iterdir()] == ["budget.json"]
