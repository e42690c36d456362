"""What is said about a config that changed between two parts of a run."""

from slotseg.config import get_cfg
from slotseg.engine.config_changes import config_changes


def test_only_what_changed_is_said():
    before = get_cfg(None, ["OUTPUT_DIR", "a"]).dump()
    now = get_cfg(None, ["OUTPUT_DIR", "b", "SOLVER.AMP.ENABLED", True, "DATASETS.TEST", ("x",)])
    assert sorted(config_changes(before, now.dump())) == [
        "DATASETS.TEST was [] and is now ['x']",
        "SOLVER.AMP.ENABLED was False and is now True",
    ]


def test_keys_of_another_version_are_left_out():
    assert config_changes("A: 1\nB: {C: 2}", "A: 1\nB: {D: 2}") == []
    assert config_changes("", "A: 1") == []
