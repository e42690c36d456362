"""What a user sees of an error."""

import pytest

from slotseg.engine.cli import mark_overrides, one_line, split_overrides, user_errors
from slotseg.errors import ConfigError, DatasetError


def test_user_errors_are_one_line_and_status_1(capsys):
    with pytest.raises(SystemExit) as exit_info, user_errors():
        raise ConfigError("SOLVER.BASE_LR: is negative;\nuse a positive one")
    assert exit_info.value.code == 1
    assert capsys.readouterr().err == "error: SOLVER.BASE_LR: is negative; use a positive one\n"


def test_ctrl_c_is_status_130(capsys):
    with pytest.raises(SystemExit) as exit_info, user_errors():
        raise KeyboardInterrupt
    assert exit_info.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_defects_keep_their_traceback():
    with pytest.raises(ZeroDivisionError), user_errors():
        1 / 0  # noqa: B018


def test_decorator():
    @user_errors()
    def tool():
        raise DatasetError("a.png: truncated")

    with pytest.raises(SystemExit):
        tool()


def test_message_of_a_data_worker():
    wrapped = DatasetError(
        "Caught DatasetError in DataLoader worker process 0.\nOriginal Traceback (most recent "
        'call last):\n  File "x.py", line 1\nslotseg.errors.DatasetError: a.png: truncated: at 7\n'
    )
    assert one_line(wrapped) == "a.png: truncated: at 7"


def test_overrides_are_kept_apart_from_options_with_several_values():
    words = [
        "--names",
        "a",
        "MODEL.pth",
        "CITY",
        "--seeds",
        "0",
        "SOLVER.BASE_LR",
        "1",
        "SEED",
        "2",
    ]
    assert mark_overrides(words) == [*words[:6], "--", *words[6:]]
    assert mark_overrides(["--names", "a", "SEED", "2"]) == ["--names", "a", "--", "SEED", "2"]
    for untouched in ([], ["--names", "a"], ["--names", "a", "--", "SEED", "2"]):
        assert mark_overrides(untouched) == untouched


def test_overrides_are_split_off():
    assert split_overrides(["a.yaml", "--only", "b", "SEED", "2"]) == (
        ["a.yaml", "--only", "b"],
        ["SEED", "2"],
    )
    assert split_overrides(["a.yaml", "--", "x"]) == (["a.yaml"], ["x"])
    assert split_overrides(["a.yaml"]) == (["a.yaml"], [])
