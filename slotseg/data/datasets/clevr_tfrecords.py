"""CLEVR with masks: from its published TFRecords to scene folders.

The file (``clevr_with_masks_train.tfrecords`` of DeepMind's Multi-Object Datasets, Kabra et al.
2019) is one GZIP stream of 100 000 ``tf.train.Example`` records, each with

==================  ============================================================================
``image``           240 x 320 x 3 byte strings, of one byte each
``mask``            11 x 240 x 320 x 1 of them, 0 or 255: the background, then up to 10 objects
``x y z``           11 floats each, position in the scene
``rotation``        11 floats, degrees
``pixel_coords``    11 x 3 floats: column, row, distance from the camera
``visibility``      11 floats: 1 where the entry exists, the background's always
``shape size``      11 byte strings each: codes from 1 on, 0 where there is no object. Their
``color material``  names were not published, so scenes hold the codes as text
==================  ============================================================================

Records are cut out of the stream here and parsed by the ``tfrecord`` package's schema. Its own
reader would inflate the whole file (some 300 GB) once before it gives the first record, and it
does not look at the checksums.
"""

from __future__ import annotations

import gzip
import os
import signal
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from detectron2.utils.file_io import PathManager
from tqdm import tqdm

from slotseg.data.scene_folder import VOID, SceneWriter, is_complete
from slotseg.errors import DatasetError

IMAGE_SIZE = (240, 320)
MAX_ENTITIES = 11
"""The background and up to ten objects."""

_CODES = ("shape", "size", "color", "material")
_FLOATS = {"x": 1, "y": 1, "z": 1, "rotation": 1, "pixel_coords": 3, "visibility": 1}
# No real record comes near; a damaged length must not ask for all the memory there is.
_LONGEST_RECORD = 64 * 1024**2
_AGAIN = "download it again, then run the same command: finished scenes are kept"


def convert_clevr_with_masks(
    tfrecords: str,
    root: str,
    num_train: int = 70_000,
    num_val: int = 15_000,
    limit: int | None = None,
    num_workers: int = 1,
) -> dict[str, str]:
    """Write ``<root>/train`` (the first records) and ``<root>/val`` (those that follow).

    A split that is complete is kept; a conversion that was interrupted goes on where it was.

    Args:
        tfrecords: the published file, as it was downloaded.
        root: folder of the splits, usually ``$DETECTRON2_DATASETS/clevr``.
        num_train: records of the training split.
        num_val: records of the validation split, right after them.
        limit: convert only the first so many scenes of each split, for a quick look.
        num_workers: processes that parse records and write pictures.

    Returns:
        The folder of each split by its name.

    Raises:
        DatasetError: the file is missing, cut short, damaged or something else, or has too few
            records. What was converted stays in ``<split>.partial`` for the next run.
    """
    if not PathManager.isfile(tfrecords):
        raise DatasetError(f"{tfrecords}: no such file; datasets/README.md says where to get it")
    splits = [
        _Split(os.path.join(root, name), os.path.basename(tfrecords), first, count)
        for name, first, count in (
            ("train", 0, num_train if limit is None else min(limit, num_train)),
            ("val", num_train, num_val if limit is None else min(limit, num_val)),
        )
        if count > 0
    ]
    if not splits or min(num_train, num_val) < 0:
        raise DatasetError(
            f"{tfrecords}: nothing to convert with {num_train} scenes for training and {num_val} "
            "for validation; give positive numbers"
        )
    missing = [s for s in splits if not is_complete(s.folder, s.source, s.num_scenes)]
    if missing:
        with _Workers(num_workers) as workers:
            _convert(tfrecords, missing, workers)
    return {os.path.basename(split.folder): split.folder for split in splits}


def read_records(path: str) -> Iterator[bytes]:
    """The serialised records of a GZIP TFRecord file, their checksums verified.

    Raises:
        DatasetError: not such a file, cut short or damaged; names the record.
    """
    number = 0
    try:
        with PathManager.open(path, "rb") as file, gzip.GzipFile(fileobj=file) as stream:
            while (record := _read_record(stream)) is not None:
                yield record
                number += 1
    except EOFError as error:
        raise DatasetError(f"{path}: cut short at record {number}; {_AGAIN}") from error
    except gzip.BadGzipFile as error:
        what = "damaged" if number else "not a GZIP TFRecord file, or damaged"
        raise DatasetError(f"{path}: {what} at record {number} ({error}); {_AGAIN}") from error
    except (zlib.error, ValueError) as error:
        raise DatasetError(f"{path}: damaged at record {number} ({error}); {_AGAIN}") from error


def parse_record(record: bytes, where: str) -> tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """One record as a scene.

    Args:
        record: serialised ``tf.train.Example``.
        where: file and record number, for errors.

    Returns:
        image: uint8 [240, 320, 3], RGB; mask: uint8 [240, 320], 0 background, i = object i, 255
        where no entry has the pixel; the attributes of the objects that exist.

    Raises:
        DatasetError: the record is not one of CLEVR with masks.
    """
    features = _parse_features(record, where)
    image = _bytes(features, "image", (*IMAGE_SIZE, 3), where)
    entity_masks = _bytes(features, "mask", (MAX_ENTITIES, *IMAGE_SIZE), where) > 127
    codes = {key: _bytes(features, key, (MAX_ENTITIES,), where) for key in _CODES}
    floats = {
        key: _floats(features, key, (MAX_ENTITIES, size), where) for key, size in _FLOATS.items()
    }
    # Entry 0 is the background, also in the number of visible entries.
    entries = [entry for entry in range(1, MAX_ENTITIES) if floats["visibility"][entry, 0] > 0]
    mask = np.full(IMAGE_SIZE, VOID, np.uint8)
    mask[entity_masks[0]] = 0
    for number, entry in enumerate(entries, start=1):
        mask[entity_masks[entry]] = number
    pixels = np.bincount(mask.reshape(-1), minlength=len(entries) + 1)
    objects = [
        {
            **{key: str(codes[key][entry]) for key in _CODES},
            "position": [float(floats[axis][entry, 0]) for axis in ("x", "y", "z")],
            "rotation": float(floats["rotation"][entry, 0]),
            "pixel_coords": floats["pixel_coords"][entry].tolist(),
            "visible_pixels": int(pixels[number]),
        }
        for number, entry in enumerate(entries, start=1)
    ]
    return image, mask, objects


@dataclass(frozen=True)
class _Split:
    """Records ``first`` .. ``first + num_scenes - 1`` of a file, and the folder for them."""

    folder: str
    file_name: str
    first: int
    num_scenes: int

    @property
    def source(self) -> dict[str, Any]:
        return {
            "data_set": "CLEVR with masks",
            "file": self.file_name,
            "first_record": self.first,
            "num_records": self.num_scenes,
        }


def _convert(tfrecords: str, splits: list[_Split], workers: _Workers) -> None:
    total = splits[-1].first + splits[-1].num_scenes
    records = enumerate(read_records(tfrecords))
    found = 0
    with tqdm(
        total=total, desc="CLEVR with masks", unit=" records", smoothing=0.05, disable=None
    ) as progress:
        for split in splits:
            writer = SceneWriter(split.folder, IMAGE_SIZE, split.source)
            wanted = set(range(split.num_scenes)) - writer.done()
            while wanted:
                number, record = next(records, (None, b""))
                if number is None:
                    raise DatasetError(
                        f"{tfrecords}: {found} records, but {total} are needed; {_AGAIN}"
                    )
                found = number + 1
                # Inflating is all that a record costs that is on disk already.
                if number - split.first in wanted:
                    wanted.remove(number - split.first)
                    where = f"{tfrecords}: record {number}"
                    workers.run(_convert_record, record, where, writer, number - split.first)
                progress.update()
            workers.wait()
            writer.finish(split.num_scenes)


def _convert_record(record: bytes, where: str, writer: SceneWriter, index: int) -> None:
    writer.write(index, *parse_record(record, where))


class _Workers:
    """Runs calls in processes, or here if there is but one, a bounded number at a time."""

    def __init__(self, num_workers: int) -> None:
        self._pool = (
            ProcessPoolExecutor(num_workers, initializer=_leave_interrupts_to_the_parent)
            if num_workers > 1
            else None
        )
        # A record is 3 MB, so the queue must not grow to the size of the file.
        self._most_pending = 4 * num_workers
        self._pending: deque[Future[None]] = deque()

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def run(self, function: Callable[..., None], *args: Any) -> None:
        """Call the function, now or soon; an error may come out of a later call."""
        if self._pool is None:
            function(*args)
            return
        if len(self._pending) >= self._most_pending:
            self._result()
        try:
            self._pending.append(self._pool.submit(function, *args))
        except BrokenProcessPool as error:
            raise self._broken() from error

    def wait(self) -> None:
        """Return when all calls have."""
        while self._pending:
            self._result()

    def _result(self) -> None:
        try:
            self._pending.popleft().result()
        except BrokenProcessPool as error:
            raise self._broken() from error

    @staticmethod
    def _broken() -> DatasetError:
        return DatasetError(
            "a conversion process was killed or ran out of memory; run the same command again "
            "with fewer --workers: finished scenes are kept"
        )


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _read_record(stream: BinaryIO) -> bytes | None:
    """One record of TFRecord framing: length, its CRC, data, their CRC; None at the end."""
    header = stream.read(12)
    if not header:
        return None
    if len(header) < 12:
        raise EOFError
    (length,) = struct.unpack("<Q", header[:8])
    _check_crc(header[:8], header[8:])
    if length > _LONGEST_RECORD:
        raise ValueError(f"a record of {length} bytes")
    record = stream.read(length)
    footer = stream.read(4)
    if len(record) < length or len(footer) < 4:
        raise EOFError
    _check_crc(record, footer)
    return record


def _check_crc(data: bytes, stored: bytes) -> None:
    from tfrecord.writer import TFRecordWriter  # here, because it is only needed to convert

    if TFRecordWriter.masked_crc(data) != stored:
        raise ValueError("wrong checksum")


def _parse_features(record: bytes, where: str) -> Any:
    from google.protobuf.message import DecodeError
    from tfrecord import example_pb2

    example = example_pb2.Example()
    try:
        example.ParseFromString(record)
    except DecodeError as error:
        raise DatasetError(f"{where}: not a tf.train.Example ({error}); {_AGAIN}") from error
    return example.features.feature


def _bytes(features: Any, key: str, shape: tuple[int, ...], where: str) -> np.ndarray:
    """A feature of byte strings, uint8 of the given shape."""
    _check_feature(features, key, "bytes_list", where)
    values = features[key].bytes_list
    # Strings of one byte are serialised as (tag 0x0A, length 1, byte). Reading these triples is
    # eight times faster than a Python object for each of the 844 800 bytes of a mask.
    triples = np.frombuffer(values.SerializeToString(), np.uint8)
    triples = triples.reshape(-1, 3) if len(triples) % 3 == 0 else triples[:0].reshape(-1, 3)
    if len(triples) and (triples[:, :2] == (0x0A, 1)).all():
        array = triples[:, 2]
    else:
        array = np.frombuffer(b"".join(values.value), np.uint8)
    return _shaped(array, key, shape, where)


def _floats(features: Any, key: str, shape: tuple[int, ...], where: str) -> np.ndarray:
    """A feature of numbers, float64 of the given shape."""
    _check_feature(features, key, "float_list", where)
    return _shaped(np.asarray(features[key].float_list.value, np.float64), key, shape, where)


def _check_feature(features: Any, key: str, kind: str, where: str) -> None:
    found = features[key].WhichOneof("kind") if key in features else None
    if found != kind:
        raise DatasetError(
            f"{where}: feature {key!r} is {found or 'missing'}, expected {kind}; is this the file "
            "of CLEVR with masks?"
        )


def _shaped(array: np.ndarray, key: str, shape: tuple[int, ...], where: str) -> np.ndarray:
    if array.size != np.prod(shape):
        raise DatasetError(
            f"{where}: feature {key!r} has {array.size} values, expected {list(shape)}; is this "
            "the file of CLEVR with masks?"
        )
    return array.reshape(shape)
