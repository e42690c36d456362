"""Folders of images: all of them are found, those that cannot be read are told."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from slotseg.data.datasets import image_folder
from slotseg.data.datasets.image_folder import load_image_folder
from slotseg.errors import DatasetError


def save(path, size=(8, 6), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(path)
    return str(path)


def test_images_are_found_in_subfolders_and_in_order(tmp_path):
    expected = [
        save(tmp_path / "a" / "2.jpg"),
        save(tmp_path / "a" / "3.JPEG"),
        save(tmp_path / "a" / "deep" / "1.webp"),
        save(tmp_path / "b.png"),
        save(tmp_path / "c.tif", mode="L"),
    ]
    save(tmp_path / ".hidden" / "1.png")
    save(tmp_path / "._b.png")
    (tmp_path / "notes.txt").write_text("no image")
    dicts, faults = load_image_folder(str(tmp_path))
    assert [entry["file_name"] for entry in dicts] == expected and faults == []
    assert [entry["image_id"] for entry in dicts][2] == os.path.join("a", "deep", "1.webp")


def test_links_are_followed_but_not_in_circles(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    save(elsewhere / "1.png")
    folder = tmp_path / "folder"
    save(folder / "2.png")
    (folder / "link").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder)
    dicts, _ = load_image_folder(str(folder))
    assert [entry["image_id"] for entry in dicts] == ["2.png", os.path.join("link", "1.png")]


def test_unreadable_files_are_listed_with_the_reason(tmp_path):
    good = save(tmp_path / "good.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("not an image at all")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    dicts, faults = load_image_folder(str(tmp_path))
    assert [entry["file_name"] for entry in dicts] == [good]
    assert [str(fault).split(": ")[0] for fault in faults] == [
        str(tmp_path / name) for name in ("deep.png", "empty.png", "text.jpg")
    ]
    assert "pixels of type I;16" in str(faults[0]) and "not an image file" in str(faults[2])


def test_subfolders_that_cannot_be_searched_are_told(tmp_path, monkeypatch):
    good = save(tmp_path / "good.png")
    save(tmp_path / "locked" / "1.png")
    search = image_folder.PathManager.ls

    def ls(path):
        if path.endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return search(path)

    monkeypatch.setattr(image_folder.PathManager, "ls", ls)
    dicts, faults = load_image_folder(str(tmp_path))
    assert [entry["file_name"] for entry in dicts] == [good]
    (told,) = map(str, faults)
    assert told.startswith(f"{tmp_path / 'locked'}: cannot be searched for images (Permission den")
    with pytest.raises(DatasetError, match="locked: cannot be searched for images"):
        load_image_folder(str(tmp_path / "locked"))


def test_readers_are_loaded_before_threads_ask_for_them(tmp_path, monkeypatch):
    """While one thread loads them, others are told that a good file is no image."""
    save(tmp_path / "1.webp")
    done = []
    monkeypatch.setattr(image_folder.Image, "init", lambda: done.append("init"))
    monkeypatch.setattr(image_folder, "check_header", lambda path: done.append("check"))
    load_image_folder(str(tmp_path))
    assert done == ["init", "check"]


def test_relative_folders_lie_under_the_root_of_data_sets_or_here(tmp_path, monkeypatch):
    save(tmp_path / "root" / "extra" / "1.png")
    save(tmp_path / "here" / "more" / "2.png")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "root"))
    monkeypatch.chdir(tmp_path / "here")
    assert load_image_folder("extra")[0][0]["image_id"] == "1.png"
    assert load_image_folder("more")[0][0]["image_id"] == "2.png"


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(DatasetError, match="nothing: no such folder of images"):
        load_image_folder(str(tmp_path / "nothing"))
    with pytest.raises(DatasetError, match=r"no image in it or below it; files end with .png"):
        load_image_folder(str(tmp_path))
