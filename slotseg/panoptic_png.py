"""Panoptic PNGs: 8-bit RGB files whose colours are segment ids.

The COCO panoptic format (Kirillov et al., "Panoptic Segmentation", CVPR 2019, and its `panopticapi`
format description): a pixel (R, G, B) belongs to segment ``R + 256 G + 65536 B``; 0 is void.

OpenCV decodes, because it is two to three times as fast as Pillow here and scoring a data set from
files is mostly decoding. What it would let pass in silence (16 bits, grey, a palette, alpha, a file
cut short or with flipped bits) is found before, by walking over the chunks of the file.
"""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
from detectron2.utils.file_io import PathManager
from PIL import Image

from slotseg.errors import DatasetError
from slotseg.files import write_atomically

MAX_ID = 256**3 - 1
"""The largest id that three bytes hold."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOR_TYPES = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGBA"}
_EXPECTED = "expected an 8-bit RGB PNG with id = R + 256 G + 65536 B, as COCO panoptic has it"
_CONVERT = "convert the set with its datasets/prepare_*.py (datasets/README.md)"

# Level 1 without filters: segment maps are runs of equal pixels, which filters only blur. It is
# three times as fast to write as the default, is faster to read, and as small.
_PNG_PARAMS = [cv2.IMWRITE_PNG_COMPRESSION, 1]
if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # OpenCV >= 4.11
    _PNG_PARAMS += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]


def read_id_map(path: str) -> np.ndarray:
    """Read the segment ids of a panoptic PNG.

    Args:
        path: file, or URL that iopath knows.

    Returns:
        int32 ``[H, W]``, contiguous and writable; 0 is void, the largest possible id 16777215.

    Raises:
        DatasetError: a missing, damaged or cut file, or one that is no 8-bit RGB PNG.
    """
    data = _read(path)
    _check_png(path, data)
    # IMREAD_COLOR would turn the picture where an orientation is noted and might change colours.
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if bgr is None or bgr.dtype != np.uint8 or bgr.ndim != 3:
        raise DatasetError(_damaged(path, "its pixels cannot be decoded"))
    # A transparent colour in an RGB file arrives as a fourth channel that says nothing about ids.
    code = cv2.COLOR_BGR2RGBA if bgr.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    return _four_bytes_to_ids(cv2.cvtColor(bgr, code))


def write_id_map(path: str, ids: np.ndarray) -> None:
    """Write segment ids as a panoptic PNG, whole or not at all, with fast compression.

    Args:
        path: file, or URL that iopath knows; its folder is created where needed.
        ids: integers ``[H, W]`` in 0..16777215.

    Raises:
        ValueError: another shape or type, or an id that three bytes do not hold.
    """
    ok, data = cv2.imencode(".png", cv2.cvtColor(ids_to_rgb(ids), cv2.COLOR_RGB2BGR), _PNG_PARAMS)
    if not ok:
        raise ValueError(f"{path}: OpenCV cannot encode ids of shape {list(ids.shape)}")
    write_atomically(path, data.tobytes())


def ids_to_rgb(ids: np.ndarray) -> np.ndarray:
    """Colours of segment ids.

    Args:
        ids: integers ``[H, W]`` in 0..16777215.

    Returns:
        uint8 ``[H, W, 3]``.

    Raises:
        ValueError: another shape or type, or an id that three bytes do not hold.
    """
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        raise ValueError(f"ids must be integers [H, W], got {ids.dtype} {list(ids.shape)}")
    if ids.size == 0:
        return np.zeros((*ids.shape, 3), np.uint8)
    if ids.min() < 0 or ids.max() > MAX_ID:
        raise ValueError(f"ids must be in 0..{MAX_ID}, got {ids.min()}..{ids.max()}")
    four_bytes = np.ascontiguousarray(ids, dtype="<i4").view(np.uint8).reshape(*ids.shape, 4)
    return cv2.cvtColor(four_bytes, cv2.COLOR_RGBA2RGB)


def rgb_to_ids(rgb: np.ndarray) -> np.ndarray:
    """Segment ids of colours: the inverse of :func:`ids_to_rgb`.

    Args:
        rgb: uint8 ``[H, W, 3]``.

    Returns:
        int32 ``[H, W]``.

    Raises:
        ValueError: another shape or type.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"rgb must be uint8 [H, W, 3], got {rgb.dtype} {list(rgb.shape)}")
    if rgb.size == 0:
        return np.zeros(rgb.shape[:2], np.int32)
    return _four_bytes_to_ids(cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2RGBA))


def _four_bytes_to_ids(rgba: np.ndarray) -> np.ndarray:
    """Read four bytes as one integer and drop the highest (ten times as fast as arithmetic)."""
    ids = rgba.view("<i4")[:, :, 0]
    ids &= MAX_ID
    return ids.astype(np.int32, copy=False)


def _read(path: str) -> bytes:
    try:
        with PathManager.open(path, "rb") as file:
            return file.read()
    except FileNotFoundError as error:
        raise DatasetError(
            f"{path}: no such panoptic PNG; the data set is incomplete, make or download it again"
        ) from error
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be read ({error.strerror or error}); check the path"
        ) from error


def _check_png(path: str, data: bytes) -> None:
    """Raise unless ``data`` is a whole, undamaged 8-bit RGB PNG of a sane size."""
    if not data.startswith(_SIGNATURE):
        what = "empty" if not data else "not a PNG file"
        raise DatasetError(f"{path}: {what}, {_EXPECTED}; {_CONVERT}")
    position, names = len(_SIGNATURE), set()
    while b"IEND" not in names:
        header = data[position : position + 8]
        if len(header) < 8:
            raise DatasetError(_damaged(path, "the file ends in the middle"))
        length, name = struct.unpack(">I4s", header)
        end = position + 8 + length
        if end + 4 > len(data):
            raise DatasetError(_damaged(path, "the file ends in the middle"))
        content = memoryview(data)[position + 4 : end]
        if zlib.crc32(content) != int.from_bytes(data[end : end + 4], "big"):
            raise DatasetError(_damaged(path, f"a wrong checksum at byte {position}"))
        if not names:
            if name != b"IHDR" or length != 13:
                raise DatasetError(_damaged(path, "no image header"))
            _check_header(path, bytes(content[4:]))
        names.add(name)
        position = end + 4
    if b"IDAT" not in names:
        raise DatasetError(_damaged(path, "no pixels"))


def _check_header(path: str, header: bytes) -> None:
    width, height, bits, color_type = struct.unpack(">IIBB", header[:10])
    if (bits, color_type) != (8, 2):
        kind = _COLOR_TYPES.get(color_type, f"colour type {color_type}")
        raise DatasetError(f"{path}: a {bits}-bit {kind} PNG, {_EXPECTED}; {_CONVERT}")
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise DatasetError(
            f"{path}: {width}x{height} pixels, more than the safe limit of {limit}; scale it down"
        )


def _damaged(path: str, why: str) -> str:
    return f"{path}: damaged ({why}); make or download this panoptic PNG again"
