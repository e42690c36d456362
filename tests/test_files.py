"""Atomic writes leave the old file or the new one, and nothing beside them."""

from __future__ import annotations

import os

import pytest

from slotseg.files import name_fault, write_atomically


def test_writes_text_and_bytes_and_makes_folders(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_atomically(str(path), "é\n")
    assert path.read_bytes() == "é\n".encode()
    write_atomically(str(path), b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert os.listdir(path.parent) == ["b.txt"]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "b.txt"
    path.write_text("old")

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(str(path), "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["b.txt"]


@pytest.mark.parametrize("name", ["a.png", "city/a.png", "..a/b..png", "./a.png"])
def test_names_inside_a_folder(name):
    assert name_fault("file_name", name) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../a.png", "a path inside"),
        ("a/../../b.png", "a path inside"),
        ("/a.png", "a path inside"),
        ("https://a/b.png", "a path inside"),
        ("", "the name of a file"),
        ("a\nb", "the name of a file"),
        (None, "the name of a file"),
        (3, "the name of a file"),
    ],
)
def test_names_that_are_none_or_lead_outside(name, expected):
    fault = name_fault("mask", name)
    assert fault.startswith(f'"mask" is {name!r}, expected {expected}') and "\n" not in fault
