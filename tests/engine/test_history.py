"""Curves of a resumed run are not doubled."""

import json

from slotseg.engine.history import drop_lines_from


def test_lines_of_the_future_and_half_lines_go(tmp_path):
    path = tmp_path / "metrics.json"
    lines = [json.dumps({"iteration": i, "loss": i / 2}) for i in (0, 19, 39, 20, 59)]
    path.write_text("\n".join(lines) + '\n{"iteration": 1, "lo')
    assert drop_lines_from(str(path), 20) == 4
    assert [json.loads(line)["iteration"] for line in path.read_text().splitlines()] == [0, 19]
    assert path.read_text().endswith("\n")


def test_nothing_to_drop_leaves_the_file_alone(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text('{"iteration": 3}\n')
    before = path.stat()
    assert drop_lines_from(str(path), 4) == 0
    assert path.stat().st_ino == before.st_ino
    assert drop_lines_from(str(tmp_path / "none.json"), 0) == 0
