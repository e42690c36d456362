"""Scene folders: resumable and atomic writing, checked reading."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slotseg.data import scene_folder
from slotseg.data.scene_folder import VOID, SceneWriter, is_complete, load_scenes
from slotseg.errors import DatasetError

SIZE = (6, 8)
SOURCE = {"generator": "test", "seed": 3, "window": (1, 2)}


def write(writer: SceneWriter, index: int, num_objects: int = 2) -> None:
    image = np.full((*SIZE, 3), index, np.uint8)
    mask = np.arange(SIZE[0] * SIZE[1], dtype=np.uint8).reshape(SIZE) % (num_objects + 1)
    objects = [{"shape": "cube", "visible_pixels": np.int64(5)} for _ in range(num_objects)]
    writer.write(index, image, mask, objects)


def all_files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_round_trip(tmp_path: Path) -> None:
    folder = tmp_path / "set" / "train"
    writer = SceneWriter(str(folder), SIZE, SOURCE)
    for index in (1, 0):
        write(writer, index)
    assert not is_complete(str(folder))
    writer.finish(2)

    assert all_files(tmp_path) == {
        "set/train/scenes.json",
        *(f"set/train/{kind}/00000{i}.png" for kind in ("images", "masks") for i in (0, 1)),
    }
    content = load_scenes(str(folder))
    assert content["image_size"] == [6, 8]
    assert content["source"] == {"generator": "test", "seed": 3, "window": [1, 2]}
    assert content["scenes"][1] == {
        "image": "images/000001.png",
        "mask": "masks/000001.png",
        "objects": [{"shape": "cube", "visible_pixels": 5}] * 2,
    }
    image = Image.open(folder / "images/000001.png")
    assert image.mode == "RGB" and np.array_equal(np.asarray(image), np.full((*SIZE, 3), 1))
    mask = Image.open(folder / "masks/000001.png")
    assert mask.mode == "L" and np.asarray(mask)[0].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


def test_is_complete_compares_source_and_number(tmp_path: Path) -> None:
    folder = str(tmp_path / "train")
    writer = SceneWriter(folder, SIZE, SOURCE)
    write(writer, 0)
    writer.finish(1)
    assert is_complete(folder) and is_complete(folder, SOURCE, 1)
    assert not is_complete(folder, {**SOURCE, "seed": 4})
    assert not is_complete(folder, SOURCE, 2)


def test_scenes_without_masks(tmp_path: Path) -> None:
    writer = SceneWriter(str(tmp_path / "train"), SIZE, SOURCE)
    writer.write(0, np.zeros((*SIZE, 3), np.uint8), None, [])
    writer.finish(1)
    assert load_scenes(str(tmp_path / "train"))["scenes"][0]["mask"] is None
    assert all_files(tmp_path / "train") == {"scenes.json", "images/000000.png"}


def test_interrupted_work_is_continued(tmp_path: Path) -> None:
    folder = str(tmp_path / "train")
    first = SceneWriter(folder, SIZE, SOURCE)
    write(first, 0)
    write(first, 2)
    second = SceneWriter(folder, SIZE, SOURCE)
    assert second.done() == {0, 2}
    with pytest.raises(DatasetError, match=r"1 of 3 scenes are missing \(first: 1\)"):
        second.finish(3)
    write(second, 1)
    second.finish(3)
    assert len(load_scenes(folder)["scenes"]) == 3


def test_another_source_or_size_starts_afresh(tmp_path: Path) -> None:
    folder = str(tmp_path / "train")
    for source, size in ((SOURCE, SIZE), ({**SOURCE, "seed": 4}, SIZE), (SOURCE, (7, 8))):
        writer = SceneWriter(folder, size, source)
        assert writer.done() == set()
        writer.write(0, np.zeros((*size, 3), np.uint8), None, [])
        assert writer.done() == {0}


def test_files_cut_short_are_not_done(tmp_path: Path) -> None:
    writer = SceneWriter(str(tmp_path / "train"), SIZE, SOURCE)
    for index in range(4):
        write(writer, index)
    partial = tmp_path / "train.partial"
    image = partial / "images/000000.png"
    image.write_bytes(image.read_bytes()[:-1])
    (partial / "masks/000001.png").write_bytes(b"")
    (partial / "scenes/000002.json").write_text('{"image": ')
    assert writer.done() == {3}


def test_temporary_and_surplus_files_are_dropped(tmp_path: Path) -> None:
    writer = SceneWriter(str(tmp_path / "train"), SIZE, SOURCE)
    for index in range(3):
        write(writer, index)
    (tmp_path / "train.partial/images/000000.png.partial-77").write_bytes(b"half")
    writer.finish(2)
    assert all_files(tmp_path / "train") == {
        "scenes.json",
        *(f"{kind}/00000{i}.png" for kind in ("images", "masks") for i in (0, 1)),
    }


@pytest.mark.parametrize("killed_at", ["scenes", "source.json", "rename"])
def test_killed_while_finishing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    """After a kill at any step of finish(), the next run ends without writing a scene again."""
    folder = str(tmp_path / "train")
    writer = SceneWriter(folder, SIZE, SOURCE)
    write(writer, 0)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if killed_at == "scenes":
            patch.setattr(scene_folder.shutil, "rmtree", die)
        elif killed_at == "source.json":
            patch.setattr(scene_folder.os, "remove", die)
        else:
            patch.setattr(SceneWriter, "_rename", die)
        with pytest.raises(KeyboardInterrupt):
            writer.finish(1)
    assert not is_complete(folder)
    again = SceneWriter(folder, SIZE, SOURCE)
    assert again.done() == {0}
    again.finish(1)
    assert is_complete(folder, SOURCE, 1)
    assert all_files(tmp_path) == {
        f"train/{name}" for name in ("scenes.json", "images/000000.png", "masks/000000.png")
    }


def test_a_finished_split_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = str(tmp_path / "train")
    for seed, number in ((0, 3), (1, 1)):
        writer = SceneWriter(folder, SIZE, {"seed": seed})
        for index in range(number):
            write(writer, index)
        assert is_complete(folder) == (seed == 1)  # the old one stays until the new one is whole
        writer.finish(number)
    assert is_complete(folder, {"seed": 1}, 1)
    assert "images/000001.png" not in all_files(tmp_path / "train")


def test_foreign_files_are_never_deleted(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train/thesis.tex").write_text("years of work")
    with pytest.raises(DatasetError, match=r"train: holds other files \(thesis.tex\)"):
        SceneWriter(str(tmp_path / "train"), SIZE, SOURCE)
    (tmp_path / "val.partial").mkdir()
    (tmp_path / "val.partial/notes").write_text("more")
    with pytest.raises(DatasetError, match="holds other files"):
        SceneWriter(str(tmp_path / "val"), SIZE, SOURCE)
    (tmp_path / "test").write_text("a file")
    with pytest.raises(DatasetError, match="is a file"):
        SceneWriter(str(tmp_path / "test"), SIZE, SOURCE)
    assert all_files(tmp_path) == {"train/thesis.tex", "val.partial/notes", "test"}


def _write_some(pickled: bytes, indices: list[int]) -> None:
    writer = pickle.loads(pickled)
    for index in indices:
        write(writer, index)


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    writer = SceneWriter(str(tmp_path / "train"), SIZE, SOURCE)
    context = multiprocessing.get_context("fork")
    # The same indices twice: whichever comes last, every file is whole.
    processes = [
        context.Process(target=_write_some, args=(pickle.dumps(writer), list(range(12))))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    writer.finish(12)
    assert len(all_files(tmp_path / "train")) == 1 + 2 * 12


def _write_forever(pickled: bytes) -> None:
    _write_some(pickled, list(range(100_000)))


def test_killed_for_real(tmp_path: Path) -> None:
    writer = SceneWriter(str(tmp_path / "train"), SIZE, SOURCE)
    process = multiprocessing.get_context("fork").Process(
        target=_write_forever, args=(pickle.dumps(writer),)
    )
    process.start()
    while len(writer.done()) < 5:
        assert process.is_alive()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    resumed = SceneWriter(str(tmp_path / "train"), SIZE, SOURCE)
    done = resumed.done()
    assert done == set(range(len(done))) and len(done) >= 5
    resumed.finish(len(done))
    for scene in load_scenes(str(tmp_path / "train"))["scenes"]:
        Image.open(tmp_path / "train" / scene["image"]).load()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((6, 9, 3), np.uint8)}, r"image is uint8 \[6, 9, 3\]"),
        ({"image": np.zeros((6, 8, 3), np.float32)}, "image is float32"),
        ({"mask": np.zeros((8, 6), np.uint8)}, r"mask is uint8 \[8, 6\]"),
        ({"mask": np.zeros((6, 8), np.int64)}, "mask is int64"),
        ({"mask": np.full((6, 8), 2, np.uint8)}, "holds object 2, but only 1 are listed"),
        ({"index": -1}, "start at 0"),
        ({"objects": [{}] * 255}, "255 objects, a mask can hold 254"),
        ({"objects": [{"shape": object()}]}, "cannot be stored"),
        ({"objects": [{"rotation": float("nan")}]}, "cannot be stored"),
    ],
)
def test_write_rejects(tmp_path: Path, change: dict, message: str) -> None:
    writer = SceneWriter(str(tmp_path / "train"), SIZE, SOURCE)
    arguments = {
        "index": 0,
        "image": np.zeros((*SIZE, 3), np.uint8),
        "mask": np.zeros(SIZE, np.uint8),
        "objects": [{}],
    }
    with pytest.raises(DatasetError, match=message):
        writer.write(**{**arguments, **change})
    assert writer.done() == set()


def test_void_pixels_may_be_written(tmp_path: Path) -> None:
    writer = SceneWriter(str(tmp_path / "train"), SIZE, SOURCE)
    writer.write(0, np.zeros((*SIZE, 3), np.uint8), np.full(SIZE, VOID, np.uint8), [])
    assert writer.done() == {0}


def test_full_disk_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SceneWriter(str(tmp_path / "train"), SIZE, SOURCE)
    write(writer, 0)

    def full(path: str, content: bytes) -> None:
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(scene_folder, "write_atomically", full)
    with pytest.raises(DatasetError, match="000001.png: cannot be written .No space left") as info:
        write(writer, 1)
    assert "\n" not in str(info.value)
    assert writer.done() == {0}


GOOD = {
    "format": "slotseg-scenes",
    "version": 1,
    "source": {},
    "image_size": [6, 8],
    "scenes": [{"image": "images/000000.png", "mask": None, "objects": []}],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "coco"}, 'its "format" is not'),
        ({"version": 2}, "layout version 2, this SlotSeg reads version 1"),
        ({"source": None}, '"source" is missing'),
        ({"image_size": [6]}, r'"image_size" is \[6\]'),
        ({"image_size": [6, -1]}, '"image_size"'),
        ({"image_size": [6.0, 8]}, '"image_size"'),
        ({"scenes": []}, "lists no scenes"),
        ({"scenes": {}}, "lists no scenes"),
        ({"scenes": [7]}, "scene 0: expected an object, found int"),
        ({"scenes": [{"image": "a.png", "objects": []}]}, 'scene 0: "mask" is missing'),
        ({"scenes": [{"image": 3, "mask": None, "objects": []}]}, 'scene 0: "image" is 3'),
        (
            {"scenes": [{"image": "a.png", "mask": "../../etc/passwd", "objects": []}]},
            "expected a path inside the folder",
        ),
        ({"scenes": [{"image": "/a.png", "mask": None, "objects": []}]}, "inside the folder"),
        ({"scenes": [{"image": "a.png", "mask": None, "objects": [1]}]}, '"objects" is not'),
        ({"scenes": [{"image": "a", "mask": None, "objects": [{}] * 255}]}, "255 objects"),
    ],
)
def test_load_rejects(tmp_path: Path, change: dict, message: str) -> None:
    (tmp_path / "scenes.json").write_text(json.dumps(GOOD))
    assert load_scenes(str(tmp_path)) == GOOD
    (tmp_path / "scenes.json").write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(DatasetError, match=message) as info:
        load_scenes(str(tmp_path))
    assert str(tmp_path / "scenes.json") in str(info.value)
    assert "\n" not in str(info.value)
    assert not is_complete(str(tmp_path))


@pytest.mark.parametrize(
    "content", [b"", b"[1, 2", json.dumps(GOOD).encode()[:-20], b"\xff\xfe\x00"]
)
def test_truncated_json_names_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "scenes.json").write_bytes(content)
    with pytest.raises(DatasetError, match="damaged or cut short") as info:
        load_scenes(str(tmp_path))
    assert str(info.value).startswith(str(tmp_path / "scenes.json"))
    assert "\n" not in str(info.value)


def test_missing_and_unfinished_folders(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"train/scenes.json: no scenes here .* make the data"):
        load_scenes(str(tmp_path / "train"))
    SceneWriter(str(tmp_path / "train"), SIZE, SOURCE)
    with pytest.raises(DatasetError, match="an unfinished one lies beside it"):
        load_scenes(str(tmp_path / "train"))
