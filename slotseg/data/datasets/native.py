"""What the forms that data sets are published in have in common: label files, and their faults.

A *native split* is a list of label files and a function that reads one. From these two,
:mod:`slotseg.data.datasets.conversion` makes COCO panoptic, and :func:`native_faults` finds
everything that is wrong with a downloaded tree in one pass.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from detectron2.data import DatasetCatalog
from detectron2.utils.file_io import PathManager
from PIL import Image, UnidentifiedImageError
from scipy import ndimage
from tqdm import tqdm

from slotseg.classes import Category
from slotseg.data.datasets.coco_panoptic import (
    ImageName,
    file_name_of,
    register_coco_panoptic,
)
from slotseg.data.datasets.root import resolve
from slotseg.errors import DatasetError

PNG_COLORS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGBA"}
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


class NoTreeError(DatasetError):
    """A set, as it was published, is not there at all."""


class LabelFile(NamedTuple):
    """One annotated image.

    Attributes:
        image_id: unique in the set.
        image: path of the image.
        label: path of the published label file.
        image_name: ``file_name`` of the image in the JSON to be made.
        png_name: ``file_name`` of its panoptic PNG there.
        shapes: of the objects in the label file, where an index file names them.
    """

    image_id: str
    image: str
    label: str
    image_name: str
    png_name: str
    shapes: tuple[str, ...] = ()


class Segment(NamedTuple):
    """What a value in a label file stands for.

    Attributes:
        id: segment id in the panoptic PNG; values with the same id are merged.
        category_id: dataset id of the class.
        iscrowd: several things that are not told apart.
    """

    id: int
    category_id: int
    iscrowd: bool = False


@dataclass
class Segments:
    """A label file as segments.

    Attributes:
        ids: int32 [H, W], 0 void.
        info: ``segments_info`` as COCO panoptic has it, in the order of the ids.
        faults: what is wrong with the file, one line each, without its name.
    """

    ids: np.ndarray
    info: list[dict[str, Any]]
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class NativeSplit:
    """A split as it was published, and where it is converted to.

    Attributes:
        title: for progress bars.
        categories: its classes.
        panoptic_json, panoptic_root: what the conversion writes.
        files: all label files. May be asked for again and again; raises NoTreeError where the
            tree is not there, and DatasetError where it is none of this set.
        read: a label file as segments; raises DatasetError where it cannot be read at all.
            Can be pickled.
        write: ``write(file, png_path)`` writes one panoptic PNG and returns its
            ``segments_info``. Set where another program has to do that; else from ``read``.
        other_faults: what is wrong with files that the conversion does not need; one line each.
    """

    title: str
    categories: tuple[Category, ...]
    panoptic_json: str
    panoptic_root: str
    files: Callable[[], list[LabelFile]]
    read: Callable[[LabelFile], Segments]
    write: Callable[[LabelFile, str], list[dict[str, Any]]] | None = None
    other_faults: Callable[[], list[str]] = list


_SPLITS: dict[str, Callable[[], NativeSplit]] = {}


def register_native(
    name: str,
    split_of: Callable[[str], NativeSplit],
    root: str,
    image_root: str,
    how_to_get: str,
    image_name: ImageName = file_name_of,
) -> None:
    """Register what a published tree is converted into; a name that is taken is left as it is.

    Args:
        name: data set name.
        split_of: from the folder of the set to its split; must not touch files.
        root: that folder, relative to ``$DETECTRON2_DATASETS``.
        image_root: folder of the images, likewise.
        how_to_get, image_name: as :func:`slotseg.data.register_coco_panoptic` has them.
    """
    if name in DatasetCatalog:
        return
    split = split_of(root)
    register_coco_panoptic(
        name,
        image_root,
        split.panoptic_root,
        split.panoptic_json,
        split.categories,
        image_name=image_name,
        how_to_get=how_to_get,
    )
    _SPLITS[name] = lambda: split_of(resolve(root))


def native_faults(name: str, progress: bool = True, num_workers: int = 1) -> Iterator[str]:
    """Everything that is wrong with the published tree of a registered set.

    Args:
        name: data set name.
        progress: show a bar, if there is a terminal.
        num_workers: processes that open files.

    Yields:
        One line a fault: file, id, what is wrong. Nothing where the set has no tree of its own
        or only the converted files are there.

    Raises:
        DatasetError: a worker process died.
    """
    if name not in _SPLITS:
        return
    split = _SPLITS[name]()
    try:
        files = split.files()
    except NoTreeError:
        return
    except DatasetError as error:
        yield str(error)
        return
    title = f"{split.title}, as published"
    bar = tqdm(total=len(files), desc=title, unit=" files", disable=None if progress else True)
    with bar, ProcessPoolExecutor(num_workers) if num_workers > 1 else nullcontext() as pool:
        work = functools.partial(_faults_of, split)
        try:
            for faults in pool.map(work, files, chunksize=4) if pool else map(work, files):
                yield from faults
                bar.update()
        except BrokenProcessPool as error:
            raise DatasetError(
                f"{title}: a worker process died, killed or out of memory; use fewer workers"
            ) from error
    yield from split.other_faults()


def _faults_of(split: NativeSplit, file: LabelFile) -> list[str]:
    return examine(split, file)[1]


def examine(split: NativeSplit, file: LabelFile) -> tuple[Segments | None, list[str]]:
    """One label file as segments, and what is wrong with it or its image.

    Returns:
        The segments, or None where the files cannot be read; faults, one line each, path first.
    """
    try:
        height, width = image_size(file.image)
        segments = split.read(file)
    except DatasetError as error:
        return None, [str(error)]
    faults = [f"{file.label}: {fault}" for fault in segments.faults]
    label_height, label_width = segments.ids.shape
    if (label_height, label_width) != (height, width):
        faults.append(
            f"{file.label}: {label_width}x{label_height} pixels, but its image {file.image} has "
            f"{width}x{height}; are they of one release?"
        )
    return segments, faults


def find_segments(keys: np.ndarray, describe: Callable[[int], Segment | None]) -> Segments:
    """Segments of a map of label values.

    Args:
        keys: whole numbers [H, W], not negative.
        describe: what a value stands for: a segment, or None for void. Raises ValueError with a
            message for values that cannot be.
    """
    values, inverse = distinct(keys)
    ids_of = np.zeros(len(values), np.int64)
    found: dict[int, Segment] = {}
    faults = []
    for position, value in enumerate(values.tolist()):
        try:
            segment = describe(value)
        except ValueError as error:
            faults.append(str(error))
            continue
        if segment is None:
            continue
        if found.setdefault(segment.id, segment) != segment:
            faults.append(f"segment {segment.id} is described in two ways; the file is damaged")
        ids_of[position] = segment.id
    order = sorted(found)
    # Merged values share a place in the list, which starts at 1 because 0 is void.
    place = np.searchsorted(order, ids_of) + 1 if order else np.zeros(len(values), np.int64)
    places = np.where(ids_of > 0, place, 0).astype(np.int32)[inverse].reshape(keys.shape)
    areas = np.bincount(places.reshape(-1), minlength=len(order) + 1)
    info = []
    for number, box in enumerate(ndimage.find_objects(places, len(order))):
        rows, columns = box
        segment = found[order[number]]
        info.append(
            {
                "id": segment.id,
                "category_id": segment.category_id,
                "area": int(areas[number + 1]),
                "bbox": [
                    int(columns.start),
                    int(rows.start),
                    int(columns.stop - columns.start),
                    int(rows.stop - rows.start),
                ],
                "iscrowd": int(segment.iscrowd),
            }
        )
    ids = np.array([0, *order], np.int32)[places]
    return Segments(ids, info, faults)


def read_label_png(path: str, bits: int, color: str) -> np.ndarray:
    """A label PNG that must have exactly this form; nothing is converted on the way.

    Args:
        path: the file.
        bits: per channel, 8 or 16.
        color: "grey", "RGB" or "RGBA".

    Returns:
        uint8 or uint16, [H, W] or [H, W, channels].

    Raises:
        DatasetError: missing, damaged, or of another form: a 16-bit map that was saved as 8-bit
            has lost its instances.
    """
    try:
        with PathManager.open(path, "rb") as stream:
            data = stream.read()
        # Pillow forgives a missing end, and turns 16 bits into 8 for some kinds of pixels.
        if not data.startswith(_PNG_SIGNATURE) or _PNG_END not in data[-64:]:
            raise DatasetError(f"{path}: not a PNG file, or cut short; get it again")
        found = data[24], PNG_COLORS.get(data[25], "of an unknown kind")
        if found != (bits, color):
            raise DatasetError(
                f"{path}: {found[0]}-bit {found[1]}, expected a PNG of {bits}-bit {color}; is it a "
                "label file of this release, as it was published?"
            )
        with Image.open(io.BytesIO(data)) as image:
            array = np.asarray(image)
    except OSError as error:
        raise DatasetError(f"{path}: {_reason(error)}") from error
    except (SyntaxError, ValueError) as error:  # how Pillow calls broken chunks
        raise DatasetError(f"{path}: damaged ({error}); get it again") from error
    return array.astype(np.uint16) if bits == 16 else array


def image_size(path: str) -> tuple[int, int]:
    """(height, width) of an image; only its header is read.

    Raises:
        DatasetError: missing, or not an image.
    """
    try:
        with PathManager.open(path, "rb") as stream, Image.open(stream) as image:
            return image.height, image.width
    except (OSError, SyntaxError, ValueError) as error:
        raise DatasetError(f"{path}: {_reason(error)}") from error


def png_names(folder: str) -> list[str]:
    """Names of the PNG files in a folder, sorted; empty where there is none."""
    names = PathManager.ls(folder) if PathManager.isdir(folder) else []
    return sorted(name for name in names if name.endswith(".png"))


def folder_names(folder: str) -> list[str]:
    """Names of the folders in a folder, sorted; empty where there is none."""
    names = PathManager.ls(folder) if PathManager.isdir(folder) else []
    return sorted(name for name in names if PathManager.isdir(os.path.join(folder, name)))


def stem(name: str) -> str:
    """A file name without its folder and extension."""
    return os.path.splitext(os.path.basename(name))[0]


def distinct(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted values of a label map, and the place of each pixel's value among them (flat)."""
    flat = keys.reshape(-1)
    # Segments are long runs of one value, so only the first pixel of each run is sorted.
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    values, places = np.unique(flat[starts], return_inverse=True)
    return values, np.repeat(places, np.diff(starts, append=flat.size))


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file; every label file needs its image and the reverse"
    if isinstance(error, UnidentifiedImageError):
        return "not an image file, or damaged; get it again"
    return f"cannot be read ({getattr(error, 'strerror', None) or error}); get it again"
