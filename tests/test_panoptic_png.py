"""Ids survive the round trip, and every file that would give wrong ids is refused by name."""

from __future__ import annotations

import io
import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from slotseg.errors import DatasetError
from slotseg.panoptic_png import MAX_ID, ids_to_rgb, read_id_map, rgb_to_ids, write_id_map

ID_MAPS = npst.arrays(
    st.sampled_from([np.int32, np.int64, np.uint32]),
    npst.array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.integers(0, MAX_ID),
)


def png(array: np.ndarray, mode: str | None = None, **options) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(buffer, "PNG", **options)
    return buffer.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    crc = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)


def raw_png(width: int, height: int, pixels: bytes, bits: int = 8, color_type: int = 2) -> bytes:
    """A PNG with right checksums and whatever content."""
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*pair) for pair in chunks)


RGB = np.arange(6 * 7 * 3, dtype=np.uint8).reshape(6, 7, 3)


@given(ID_MAPS)
def test_colours_are_the_bytes_of_the_id(ids):
    rgb = ids_to_rgb(ids)
    assert rgb.dtype == np.uint8
    weights = rgb.astype(np.int64)
    assert (weights[..., 0] + 256 * weights[..., 1] + 65536 * weights[..., 2] == ids).all()
    back = rgb_to_ids(rgb)
    assert back.dtype == np.int32
    assert (back == ids).all()


def test_round_trip_through_a_file_that_other_programs_read(tmp_path):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, MAX_ID, (33, 21), endpoint=True)
    ids[0, :2] = 0, MAX_ID
    path = str(tmp_path / "new folder" / "ids.png")
    write_id_map(path, ids)
    back = read_id_map(path)
    assert back.dtype == np.int32
    assert back.flags.c_contiguous
    assert back.flags.writeable
    assert (back == ids).all()
    with Image.open(path) as image:
        assert image.mode == "RGB"
        assert (np.asarray(image) == ids_to_rgb(ids)).all()
    assert [file.name for file in (tmp_path / "new folder").iterdir()] == ["ids.png"]


def test_strided_views_are_encoded_as_they_look():
    ids = np.arange(48).reshape(6, 8)[::2, ::-1]
    assert (rgb_to_ids(ids_to_rgb(ids)) == ids).all()
    assert (rgb_to_ids(ids_to_rgb(ids)[:, ::-1]) == ids[:, ::-1]).all()


def test_a_transparent_colour_and_a_noted_rotation_change_no_id(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by a quarter
    path = tmp_path / "odd.png"
    path.write_bytes(png(RGB, transparency=(0, 1, 2), exif=exif))
    assert (read_id_map(str(path)) == rgb_to_ids(RGB)).all()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty"),
        (b"GIF89a and more", "not a PNG file"),
        (png(RGB[..., 0]), "8-bit grey PNG"),
        (png(RGB[..., 0].astype(np.uint16) * 300), "16-bit grey PNG"),
        (png(RGB, "P"), "palette PNG"),
        (png(RGB, "RGBA"), "8-bit RGBA PNG"),
        (png(RGB, "LA"), "8-bit grey with alpha PNG"),
        (raw_png(2, 1, b"\0" + bytes(12), bits=16), "16-bit RGB PNG"),
    ],
    ids=["empty", "gif", "grey", "grey16", "palette", "rgba", "grey-alpha", "rgb16"],
)
def test_other_kinds_of_files_are_refused_with_what_to_do(tmp_path, content, what):
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        read_id_map(str(path))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert what in message
    assert "expected an 8-bit RGB PNG" in message
    assert "prepare_" in message
    assert "\n" not in message


def test_a_file_cut_anywhere_is_refused(tmp_path):
    path = tmp_path / "cut.png"
    whole = png(RGB)
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DatasetError, match=r"cut\.png: (damaged|not a PNG)"):
            read_id_map(str(path))
    path.write_bytes(whole + b"left over")
    assert (read_id_map(str(path)) == rgb_to_ids(RGB)).all()


def test_a_flipped_bit_anywhere_is_refused(tmp_path):
    path = tmp_path / "flipped.png"
    whole = bytearray(png(RGB))
    for position in range(len(whole)):
        whole[position] ^= 4
        path.write_bytes(whole)
        with pytest.raises(DatasetError, match=r"flipped\.png: "):
            read_id_map(str(path))
        whole[position] ^= 4


@pytest.mark.parametrize("rows", [0, 3], ids=["no rows", "half the rows"])
def test_too_few_pixels_under_right_checksums(tmp_path, rows):
    path = tmp_path / "short.png"
    path.write_bytes(raw_png(4, 6, (b"\0" + bytes(range(12))) * rows))
    with pytest.raises(DatasetError, match=r"short\.png: damaged"):
        read_id_map(str(path))


def test_oversized_files_are_refused_before_decoding(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(raw_png(60000, 60000, b""))
    with pytest.raises(DatasetError, match=r"bomb\.png: 60000x60000 pixels, more than the safe"):
        read_id_map(str(path))


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(DatasetError, match=r"none\.png: no such panoptic PNG"):
        read_id_map(str(tmp_path / "none.png"))
    with pytest.raises(DatasetError, match="cannot be read"):
        read_id_map(str(tmp_path))


@pytest.mark.parametrize("value", [-1, MAX_ID + 1])
def test_ids_that_do_not_fit_are_refused_and_nothing_is_written(tmp_path, value):
    with pytest.raises(ValueError, match="ids must be in"):
        write_id_map(str(tmp_path / "a.png"), np.full((2, 2), value))
    assert not list(tmp_path.iterdir())


def test_shapes_and_types_are_checked():
    with pytest.raises(ValueError, match=r"integers \[H, W\]"):
        ids_to_rgb(np.zeros((2, 2, 3), np.int32))
    with pytest.raises(ValueError, match=r"integers \[H, W\]"):
        ids_to_rgb(np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\]"):
        rgb_to_ids(np.zeros((2, 2, 4), np.uint8))
    assert rgb_to_ids(np.zeros((0, 2, 3), np.uint8)).shape == (0, 2)
    assert ids_to_rgb(np.zeros((2, 0), np.int32)).shape == (2, 0, 3)


def test_coco_sample_is_read_as_its_json_says(samples_dir):
    folder = samples_dir / "coco_panoptic_sample" / "sample_data"
    if not folder.is_dir():
        pytest.skip("no COCO panoptic sample here")
    ids = read_id_map(str(folder / "panoptic_examples" / "000000142238.png"))
    with Image.open(folder / "panoptic_examples" / "000000142238.png") as image:
        rgb = np.asarray(image).astype(np.int64)
    assert (ids == rgb @ [1, 256, 65536]).all()
    annotations = json.loads((folder / "panoptic_examples.json").read_text())["annotations"]
    entry = next(a for a in annotations if a["file_name"] == "000000142238.png")
    areas = {segment["id"]: segment["area"] for segment in entry["segments_info"]}
    counted = dict(zip(*(v.tolist() for v in np.unique(ids, return_counts=True)), strict=True))
    counted.pop(0, None)
    assert counted == areas
