from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from slotseg.data.scene_folder import is_complete, load_scenes
from slotseg.data.synthetic import clevr
from slotseg.data.synthetic.clevr import generate_scene, generate_split
from slotseg.errors import ConfigError, DatasetError, SlotSegError

SMALL = {"image_size": (24, 24), "supersampling": 1, "progress": False}

needs_fork = pytest.mark.skipif(sys.platform != "linux", reason="patches reach forked workers only")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_same_seed_and_index_give_the_same_bytes() -> None:
    first = generate_scene(5, 3, (48, 40))
    generate_scene(5, 4, (48, 40))
    again = generate_scene(5, 3, (48, 40))
    assert first.image.tobytes() == again.image.tobytes()
    assert first.mask.tobytes() == again.mask.tobytes()
    assert first.objects == again.objects
    assert first.image.shape == (48, 40, 3) and first.image.dtype == np.uint8
    assert first.mask.shape == (48, 40) and first.mask.dtype == np.uint8


def test_other_index_or_seed_gives_another_scene() -> None:
    images = {generate_scene(*key, (24, 24)).image.tobytes() for key in [(0, 1), (0, 2), (1, 1)]}
    assert len(images) == 3


def test_attributes_describe_the_mask() -> None:
    outside = 0
    for index in range(10, 20):
        scene = generate_scene(9, index, (64, 64), supersampling=1)
        assert 3 <= len(scene.objects) <= 10
        counts = np.bincount(scene.mask.ravel(), minlength=len(scene.objects) + 1)
        assert len(counts) == len(scene.objects) + 1
        for number, entry in enumerate(scene.objects, start=1):
            assert entry["visible_pixels"] == counts[number]
            x, y, depth = entry["pixel_coords"]
            assert 4 < depth < 20
            if not counts[number]:
                outside += 1
                # Every object shows in the whole frame, so this one is outside of the window.
                assert min(x, y, 64 - x, 64 - y) < 12
            elif counts[number] > 60 and min(x, y, 64 - x, 64 - y) > 8:
                rows, columns = np.nonzero(scene.mask == number)
                assert rows.min() - 8 < y < rows.max() + 8
                assert columns.min() - 8 < x < columns.max() + 8
    assert outside  # the case occurs


def test_number_of_objects_can_be_limited() -> None:
    for index in range(6):
        scene = generate_scene(0, index, (16, 16), supersampling=1, min_objects=2, max_objects=4)
        assert 2 <= len(scene.objects) <= 4


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": (0, 24)},
        {"window": "half"},
        {"supersampling": 0},
        {"max_objects": 40},
        {"min_objects": 5, "max_objects": 4},
        {"seed": -1},
        {"num_scenes": 0},
        {"workers": 0},
    ],
)
def test_bad_arguments_are_named_in_one_line(tmp_path: Path, change: dict) -> None:
    arguments = {"seed": 0, "num_scenes": 2, **SMALL, **change}
    with pytest.raises(ConfigError) as caught:
        generate_split(str(tmp_path / "set"), **arguments)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_split_is_the_same_with_any_number_of_workers(tmp_path: Path) -> None:
    assert generate_split(str(tmp_path / "one"), 0, 7, workers=1, **SMALL)
    assert generate_split(str(tmp_path / "three"), 0, 7, workers=3, **SMALL)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")
    loaded = load_scenes(str(tmp_path / "one"))
    assert loaded["image_size"] == [24, 24] and len(loaded["scenes"]) == 7
    assert loaded["source"]["seed"] == 0 and loaded["source"]["generator"] == "clevr"
    assert loaded["scenes"][4]["objects"] == generate_scene(0, 4, (24, 24), "clevr", 1).objects


def test_finished_split_is_left_alone_and_a_different_one_is_made_again(tmp_path: Path) -> None:
    folder = str(tmp_path / "set")
    assert generate_split(folder, 0, 3, workers=1, **SMALL)
    before = os.stat(os.path.join(folder, "scenes.json")).st_mtime_ns
    assert not generate_split(folder, 0, 3, workers=1, **SMALL)
    assert os.stat(os.path.join(folder, "scenes.json")).st_mtime_ns == before
    assert generate_split(folder, 1, 3, workers=1, **SMALL)
    assert load_scenes(folder)["source"]["seed"] == 1
    assert generate_split(folder, 1, 3, workers=1, **{**SMALL, "image_size": (16, 16)})
    assert load_scenes(folder)["image_size"] == [16, 16]


@needs_fork
def test_a_killed_run_goes_on_and_ends_with_the_same_files(tmp_path: Path) -> None:
    generate_split(str(tmp_path / "straight"), 3, 24, workers=1, **SMALL)
    folder = tmp_path / "killed"
    process = multiprocessing.get_context("fork").Process(
        target=generate_split, args=(str(folder), 3, 24), kwargs={"workers": 1, **SMALL}
    )
    process.start()
    done = tmp_path / "killed.partial" / "scenes"
    limit = time.monotonic() + 30
    while not (done.is_dir() and len(list(done.iterdir())) >= 3):
        assert time.monotonic() < limit and process.is_alive()
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not folder.exists() and not is_complete(str(folder))
    rendered = []
    original = clevr.generate_scene

    def record(seed: int, index: int, **options):
        rendered.append(index)
        return original(seed, index, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clevr, "generate_scene", record)
        generate_split(str(folder), 3, 24, workers=1, **SMALL)
    assert 0 < len(rendered) < 23  # what was there is kept
    assert contents(folder) == contents(tmp_path / "straight")


@needs_fork
def test_a_worker_that_fails_leaves_whole_files_only(tmp_path: Path, monkeypatch) -> None:
    original = clevr.generate_scene

    def fail(seed: int, index: int, **options):
        if index == 5:
            raise DatasetError("scene 5 does not work")
        return original(seed, index, **options)

    folder = tmp_path / "set"
    monkeypatch.setattr(clevr, "generate_scene", fail)
    with pytest.raises(SlotSegError, match="scene 5 does not work"):
        generate_split(str(folder), 0, 12, workers=2, **SMALL)
    assert not folder.exists()
    names = [p.name for p in (tmp_path / "set.partial").rglob("*") if p.is_file()]
    assert names and all(name.endswith((".json", ".png")) for name in names)
    monkeypatch.undo()
    generate_split(str(folder), 0, 12, workers=1, **SMALL)
    assert is_complete(str(folder), num_scenes=12)


@needs_fork
def test_a_worker_that_dies_is_reported_in_one_line(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(clevr, "generate_scene", lambda *_, **__: os._exit(9))
    with pytest.raises(DatasetError, match="worker process died") as caught:
        generate_split(str(tmp_path / "set"), 0, 12, workers=2, **SMALL)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "set").exists()


def test_srgb_curve() -> None:
    linear = np.array([-1, 0, 0.001, 0.0031308, 0.18, 0.5, 1, 7])
    np.testing.assert_array_equal(clevr.encode_srgb(linear), [0, 0, 3, 10, 118, 188, 255, 255])
