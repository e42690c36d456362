"""Reading images and masks: formats, and every way in which a file can be bad."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slotseg.data.images import read_image, read_mask
from slotseg.errors import ConfigError, DatasetError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def save(path: Path, image: Image.Image) -> str:
    image.save(path)
    return str(path)


def message_of(info: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(info.value)
    return str(info.value)


def test_channel_orders(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(PIXELS))
    assert np.array_equal(read_image(path, "RGB"), PIXELS)
    assert np.array_equal(read_image(path, "BGR"), PIXELS[..., ::-1])
    grey = read_image(path, "L")
    assert grey.shape == (5, 7, 1)
    # ITU-R 601 luma, as Pillow rounds it.
    expected = PIXELS @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey[..., 0] - expected).max() <= 1
    with pytest.raises(ConfigError, match="INPUT.FORMAT is 'YUV'"):
        read_image(path, "YUV")


def test_alpha_grey_and_palette_become_rgb(tmp_path: Path) -> None:
    alpha = np.dstack([PIXELS, np.full((5, 7), 9, np.uint8)])
    assert np.array_equal(read_image(save(tmp_path / "a.png", Image.fromarray(alpha))), PIXELS)
    grey = read_image(save(tmp_path / "g.png", Image.fromarray(PIXELS[..., 0])))
    assert np.array_equal(grey, np.repeat(PIXELS[..., :1], 3, axis=2))
    palette = Image.fromarray(PIXELS // 255 * 255).quantize(8)
    expected = np.asarray(palette.convert("RGB"))
    assert np.array_equal(read_image(save(tmp_path / "p.png", palette)), expected)


def test_photos_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # "rotate by 90 degrees clockwise to view"
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    upright = read_image(str(tmp_path / "a.png"))
    assert np.array_equal(upright, np.rot90(PIXELS, -1))


@pytest.mark.parametrize("keep", [0, 4, 8, 30, 60, 200])
@pytest.mark.parametrize("read", [read_image, read_mask])
def test_truncated_png(tmp_path: Path, keep: int, read) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (40, 40), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    path = tmp_path / "cut.png"
    path.write_bytes(buffer.getvalue()[:keep])
    with pytest.raises(DatasetError, match="cannot be read as an image") as info:
        read(str(path))
    assert message_of(info).startswith(f"{path}: ")


def test_flipped_bits_and_other_files(tmp_path: Path) -> None:
    path = Path(save(tmp_path / "a.png", Image.fromarray(PIXELS)))
    content = bytearray(path.read_bytes())
    content[-30] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="cannot be read as an image"):
        read_image(str(path))
    path.write_text("<html>404 Not Found</html>")
    with pytest.raises(DatasetError, match=r"a.png: .*\(not an image file\)"):
        read_image(str(path))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"none.png: no such file; .* incomplete"):
        read_mask(str(tmp_path / "none.png"))
    with pytest.raises(DatasetError, match="cannot be read as an image .Is a directory") as info:
        read_image(str(tmp_path))
    assert message_of(info).startswith(str(tmp_path))


@pytest.mark.parametrize(
    ("mode", "array"),
    [("I;16", np.zeros((4, 4), np.uint16)), ("I", np.zeros((4, 4), np.int32))],
)
def test_wide_grey_images_are_refused(tmp_path: Path, mode: str, array: np.ndarray) -> None:
    suffix = "png" if mode == "I;16" else "tif"
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(array))
    with pytest.raises(DatasetError, match=f"pixels of type {mode}, expected 8 bits"):
        read_image(path)


@pytest.mark.parametrize("mode", ["RGB", "P", "I;16", "1", "RGBA"])
def test_masks_must_be_grey(tmp_path: Path, mode: str) -> None:
    image = (
        Image.fromarray(np.zeros((4, 4), np.uint16)) if mode == "I;16" else Image.new(mode, (4, 4))
    )
    with pytest.raises(DatasetError, match="mask of Pillow mode") as info:
        read_mask(save(tmp_path / "m.png", image))
    assert f"'{mode}'" in message_of(info) and "8-bit grey" in message_of(info)


def test_mask_values_are_exact(tmp_path: Path) -> None:
    values = np.arange(256, dtype=np.uint8).reshape(8, 32)
    assert np.array_equal(read_mask(save(tmp_path / "m.png", Image.fromarray(values))), values)


# Above the limit Pillow only warns, above twice the limit it raises; both are one error here.
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [1000, 500])
def test_decompression_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    path = save(tmp_path / "bomb.png", Image.new("L", (40, 30)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(DatasetError, match=r"bomb.png: .*pixels") as info:
        read_mask(path)
    assert "limit" in message_of(info)
