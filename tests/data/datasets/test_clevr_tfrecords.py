"""CLEVR with masks: TFRecords of the published schema become scene folders."""

from __future__ import annotations

import gzip
import os
import runpy
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from PIL import Image
from tfrecord.writer import TFRecordWriter

from slotseg.config import get_cfg
from slotseg.data import SceneMapper, is_complete, load_scenes
from slotseg.data.datasets import clevr_tfrecords
from slotseg.data.datasets.clevr_tfrecords import (
    convert_clevr_with_masks,
    parse_record,
    read_records,
)
from slotseg.errors import DatasetError

SHAPE = (240, 320)
SINGLE_BYTES = [bytes([value]) for value in range(256)]


def as_byte_strings(array: np.ndarray) -> list[bytes]:
    """How the published file holds arrays: one byte string for each byte."""
    return [SINGLE_BYTES[value] for value in array.reshape(-1)]


def make_scene(seed: int, num_objects: int) -> dict[str, np.ndarray]:
    """The 12 features of a record, objects as rectangles that hide each other."""
    generator = np.random.default_rng(seed)
    # Blocks of one colour compress well, so that writing the file does not dominate the test.
    image = np.kron(generator.integers(0, 256, (6, 8, 3)), np.ones((40, 40, 1))).astype(np.uint8)
    numbers = np.zeros(SHAPE, np.uint8)
    for number in range(1, num_objects + 1):
        top, left = generator.integers(0, 180), generator.integers(0, 260)
        numbers[top : top + 60, left : left + 60] = number
    exists = np.arange(11) <= num_objects
    masks = (numbers == np.arange(11)[:, None, None]) & exists[:, None, None]
    is_object = exists & (np.arange(11) > 0)
    codes = {
        key: (generator.integers(1, 3, 11) * is_object).astype(np.uint8)
        for key in ("size", "material", "shape", "color")
    }
    floats = {key: generator.uniform(-3, 3, 11) * is_object for key in ("x", "y", "z", "rotation")}
    return {
        "image": image,
        "mask": (255 * masks).astype(np.uint8)[..., None],
        **codes,
        **floats,
        "pixel_coords": generator.uniform(0, 200, (11, 3)) * is_object[:, None],
        "visibility": exists.astype(np.float64),
    }


def serialise(scene: dict[str, np.ndarray], encode: Callable = as_byte_strings) -> bytes:
    datum = {
        key: (encode(value), "byte")
        if value.dtype == np.uint8
        else (value.reshape(-1).astype(np.float32), "float")
        for key, value in scene.items()
    }
    return TFRecordWriter.serialize_tf_example(datum)


def write_file(path: Path, records: list[bytes]) -> Path:
    """The package's framing, GZIP around it as in the published file."""
    plain = path.with_suffix(".plain")
    writer = TFRecordWriter(str(plain))
    for record in records:
        length = struct.pack("<Q", len(record))
        writer.file.write(length + TFRecordWriter.masked_crc(length))
        writer.file.write(record + TFRecordWriter.masked_crc(record))
    writer.close()
    path.write_bytes(gzip.compress(plain.read_bytes(), 1))
    plain.unlink()
    return path


COUNTS = [3, 6, 10, 7, 1]
SCENES = [make_scene(seed, count) for seed, count in enumerate(COUNTS)]


@pytest.fixture(scope="module")
def records() -> list[bytes]:
    return [serialise(scene) for scene in SCENES]


@pytest.fixture(scope="module")
def tfrecords(tmp_path_factory: pytest.TempPathFactory, records: list[bytes]) -> Path:
    folder = tmp_path_factory.mktemp("download")
    return write_file(folder / "clevr_with_masks_train.tfrecords", records)


def test_the_package_reads_what_is_written_here(tfrecords: Path) -> None:
    """The test file is a real GZIP TFRecord to the package's own reader too."""
    from tfrecord.reader import tfrecord_loader

    loaded = list(tfrecord_loader(str(tfrecords), None, compression_type="gzip"))
    assert len(loaded) == len(SCENES)
    image = loaded[1]["image"].view(np.uint8).reshape(*SHAPE, 3)
    assert np.array_equal(image, SCENES[1]["image"])


@pytest.mark.parametrize("num_workers", [1, 2])
def test_conversion(tfrecords: Path, tmp_path: Path, num_workers: int) -> None:
    folders = convert_clevr_with_masks(str(tfrecords), str(tmp_path), 3, 2, None, num_workers)
    assert folders == {name: str(tmp_path / name) for name in ("train", "val")}
    assert sorted(os.listdir(tmp_path)) == ["train", "val"]
    for split, first, count in (("train", 0, 3), ("val", 3, 2)):
        content = load_scenes(str(tmp_path / split))
        assert content["image_size"] == [240, 320]
        assert content["source"]["first_record"] == first
        assert [len(s["objects"]) for s in content["scenes"]] == COUNTS[first : first + count]
        for scene, expected in zip(content["scenes"], SCENES[first:], strict=False):
            image = np.asarray(Image.open(tmp_path / split / scene["image"]))
            assert np.array_equal(image, expected["image"])
            mask = np.asarray(Image.open(tmp_path / split / scene["mask"]))
            assert np.array_equal(mask, (expected["mask"][..., 0] > 0).argmax(0))
            for number, entry in enumerate(scene["objects"], start=1):
                assert entry["color"] == str(expected["color"][number])
                assert entry["rotation"] == pytest.approx(expected["rotation"][number], abs=1e-5)
                position = [expected[axis][number] for axis in "xyz"]
                assert entry["position"] == pytest.approx(position, abs=1e-5)
                pixels = expected["pixel_coords"][number]
                assert entry["pixel_coords"] == pytest.approx(pixels, abs=1e-4)
                assert entry["visible_pixels"] == (mask == number).sum()


def test_converted_scenes_are_registered_and_mapped(
    tfrecords: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    convert_clevr_with_masks(str(tfrecords), str(tmp_path / "clevr"), 5, 0)
    assert [d["num_objects"] for d in DatasetCatalog.get("clevr_train")] == COUNTS
    six = DatasetCatalog.get("clevr6_train")
    assert [entry["num_objects"] for entry in six] == [3, 6, 1]
    cfg = get_cfg(None, ["INPUT.CROP_WINDOW", (29, 64, 221, 256)])
    mapped = SceneMapper(cfg, False)(six[1])
    assert mapped["image"].shape == (3, 128, 128)
    assert mapped["segment_is_object"].tolist() == [False] + 6 * [True]
    # Row 29 + 1.5 * (r + 0.5) of the file is the centre of row r of the result.
    rows, columns = ((np.arange(128) + 0.5) * 1.5 + offset for offset in (29, 64))
    numbers = (SCENES[1]["mask"][..., 0] > 0).argmax(0)
    expected = numbers[np.ix_(rows.astype(int), columns.astype(int))]
    assert np.array_equal(mapped["segment_map"].numpy(), expected)


def test_limit(tfrecords: Path, tmp_path: Path) -> None:
    convert_clevr_with_masks(str(tfrecords), str(tmp_path), 3, 2, limit=1)
    for split, count in (("train", 3), ("val", 7)):
        (scene,) = load_scenes(str(tmp_path / split))["scenes"]
        assert len(scene["objects"]) == count


class _Killed(BaseException):
    """As final as a kill: nothing in the code under test may catch it."""


def test_an_interrupted_conversion_goes_on(
    tfrecords: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []

    def parse(record: bytes, where: str, die_at: int | None) -> Any:
        if len(parsed) == die_at:
            raise _Killed
        parsed.append(where.rpartition(" ")[2])
        return parse_record(record, where)

    monkeypatch.setattr(clevr_tfrecords, "parse_record", lambda r, w: parse(r, w, 2))
    with pytest.raises(_Killed):
        convert_clevr_with_masks(str(tfrecords), str(tmp_path), 3, 2)
    assert os.listdir(tmp_path) == ["train.partial"]
    monkeypatch.setattr(clevr_tfrecords, "parse_record", lambda r, w: parse(r, w, None))
    convert_clevr_with_masks(str(tfrecords), str(tmp_path), 3, 2)
    assert parsed == ["0", "1", "2", "3", "4"]  # none of them twice
    assert sorted(os.listdir(tmp_path)) == ["train", "val"]
    convert_clevr_with_masks(str(tfrecords), str(tmp_path), 3, 2)
    assert len(parsed) == 5
    # Another number of scenes is another split.
    convert_clevr_with_masks(str(tfrecords), str(tmp_path), 2, 0)
    assert is_complete(str(tmp_path / "train"), num_scenes=2)


def test_gaps_between_visible_entries_are_closed() -> None:
    scene = make_scene(0, 4)
    scene["visibility"][2] = 0
    scene["mask"][2] = 0
    _, mask, objects = parse_record(serialise(scene), "here")
    assert [entry["color"] for entry in objects] == [str(scene["color"][i]) for i in (1, 3, 4)]
    assert np.array_equal(mask == 2, scene["mask"][3, ..., 0] > 0)
    assert (mask == 255).any()  # where entry 2 was, nothing is now


def test_overlaps_go_to_the_later_entry() -> None:
    scene = make_scene(0, 2)
    scene["mask"][:, :10] = 255
    scene["mask"][3:] = 0
    _, mask, objects = parse_record(serialise(scene), "here")
    assert (mask[:10] == 2).all() and len(objects) == 2


def test_whole_arrays_as_one_byte_string_are_read_too(records: list[bytes]) -> None:
    blob = serialise(SCENES[0], encode=lambda array: [array.tobytes()])
    for first, second in zip(parse_record(blob, "a"), parse_record(records[0], "b"), strict=True):
        assert np.array_equal(first, second)


def errors_of(path: Path, folder: Path) -> str:
    with pytest.raises(DatasetError) as info:
        convert_clevr_with_masks(str(path), str(folder), 3, 2)
    message = str(info.value)
    assert "\n" not in message and message.startswith(str(path))
    assert not (folder / "val").exists()
    return message


def test_truncated_download(tfrecords: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.tfrecords"
    path.write_bytes(tfrecords.read_bytes()[: tfrecords.stat().st_size * 6 // 10])
    message = errors_of(path, tmp_path)
    assert "cut short at record" in message and "download it again" in message
    # The whole file continues what the first part began.
    path.write_bytes(tfrecords.read_bytes())
    convert_clevr_with_masks(str(path), str(tmp_path), 3, 2)
    assert is_complete(str(tmp_path / "train"), num_scenes=3)


def test_too_few_records(tmp_path: Path, records: list[bytes]) -> None:
    path = write_file(tmp_path / "four.tfrecords", records[:4])
    assert "4 records, but 5 are needed" in errors_of(path, tmp_path)
    assert is_complete(str(tmp_path / "train"), num_scenes=3)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "0 records, but 5 are needed"),
        (b"<html>", "not a GZIP TFRecord file"),
        (gzip.compress(b"not records at all, but long enough"), "damaged at record 0"),
        (gzip.compress(b"short"), "cut short at record 0"),
    ],
    # Compressed bytes hold the time, and every test process must find the same names.
    ids=["empty", "page", "other-content", "too-short"],
)
def test_wrong_files(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "wrong.tfrecords"
    path.write_bytes(content)
    assert expected in errors_of(path, tmp_path)


def test_missing_file(tmp_path: Path) -> None:
    assert "no such file" in errors_of(tmp_path / "none.tfrecords", tmp_path)
    assert not list(tmp_path.iterdir())


def test_flipped_bit(tmp_path: Path, records: list[bytes]) -> None:
    path = write_file(tmp_path / "bits.tfrecords", records[:2])
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[len(records[0]) + 16 + 5000] ^= 1
    path.write_bytes(gzip.compress(bytes(content), 1))
    assert "damaged at record 1 (wrong checksum)" in errors_of(path, tmp_path)


def changed(change: dict[str, np.ndarray | None]) -> bytes:
    scene = {**make_scene(0, 2), **change}
    return serialise({key: value for key, value in scene.items() if value is not None})


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (lambda: changed({"mask": None}), "feature 'mask' is missing, expected bytes_list"),
        (lambda: changed({"x": np.zeros(11, np.uint8)}), "'x' is bytes_list, expected float_list"),
        (
            lambda: changed({"image": np.zeros((64, 64, 3), np.uint8)}),
            "'image' has 12288 values, expected [240, 320, 3]",
        ),
        (lambda: b"\xff" * 40, "not a tf.train.Example"),
    ],
)
def test_records_of_other_data(
    tmp_path: Path, record: Callable[[], bytes], expected: str, records: list[bytes]
) -> None:
    path = write_file(tmp_path / "other.tfrecords", [records[0], record()])
    message = errors_of(path, tmp_path)
    assert expected in message and "record 1" in message


@pytest.mark.parametrize("num_workers", [1, 2])
def test_errors_of_processes_arrive(tmp_path: Path, records: list[bytes], num_workers: int) -> None:
    path = write_file(tmp_path / "other.tfrecords", [records[0], changed({"mask": None})])
    with pytest.raises(DatasetError, match="record 1: feature 'mask' is missing"):
        convert_clevr_with_masks(str(path), str(tmp_path), 2, 0, None, num_workers)


def test_records_are_read_one_at_a_time(tfrecords: Path, records: list[bytes]) -> None:
    stream: Iterator[bytes] = read_records(str(tfrecords))
    assert next(stream) == records[0]
    assert list(stream) == records[1:]


@pytest.mark.parametrize(("num_train", "num_val"), [(0, 0), (-1, 4)])
def test_nothing_to_convert(tfrecords: Path, tmp_path: Path, num_train: int, num_val: int) -> None:
    with pytest.raises(DatasetError, match="give positive numbers"):
        convert_clevr_with_masks(str(tfrecords), str(tmp_path), num_train, num_val)


@pytest.fixture
def run_tool(
    project_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """The tool as a script, from another folder; in this process, because importing is slow."""

    def run(*arguments: str) -> None:
        tool = str(project_root / "datasets/prepare_clevr.py")
        monkeypatch.setattr(sys, "argv", [tool, *arguments])
        runpy.run_path(tool, run_name="__main__")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "sets"))
    return run


def test_command_line(
    tfrecords: Path,
    tmp_path: Path,
    run_tool: Callable,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numbers = ["--train", "1", "--val", "1", "--workers", "1"]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run_tool("--tfrecords", str(tfrecords), *numbers)
    assert is_complete(str(tmp_path / "sets/clevr/train"), num_scenes=1)
    output = capsys.readouterr()
    assert str(tmp_path / "sets/clevr/val") in output.out
    assert "CLEVR with masks" in output.err and "2/2" in output.err  # the progress bar


def test_command_line_errors(run_tool: Callable, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as info:
        run_tool("--tfrecords", "none.tfrecords")
    assert info.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: none.tfrecords: no such file") and error.count("\n") == 1
