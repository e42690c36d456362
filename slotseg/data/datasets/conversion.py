"""From a published tree to COCO panoptic: interrupted at any moment, it goes on where it was.

Panoptic PNGs are written to ``<panoptic_root>.partial`` and a record of each to
``<panoptic_root>.records``; the folder gets its name when all are there, and the JSON file comes
last, so that whoever sees it sees a complete set.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from slotseg.data.datasets.native import LabelFile, NativeSplit, examine
from slotseg.errors import DatasetError
from slotseg.files import write_atomically
from slotseg.panoptic_png import write_id_map


def convert(split: NativeSplit, num_workers: int = 1) -> None:
    """Write ``panoptic_root`` and ``panoptic_json`` of a split, unless they are up to date.

    They are when the JSON lists the same images and no label file is newer. Works on local files.

    Args:
        split: what to convert, and where to.
        num_workers: processes.

    Raises:
        DatasetError: the tree is not there, or a file of it is missing or wrong; what was
            converted is kept for the next run.
    """
    files = split.files()
    if is_converted(split, files):
        shutil.rmtree(_records(split), ignore_errors=True)  # of a run killed at its last step
        return
    with _explain_os_errors(split.panoptic_root):
        # What is about to be replaced must not look complete from here on.
        _remove_file(split.panoptic_json)
        _resume(split)
        _convert_files(split, files, num_workers)
        _finish(split, files)


def is_converted(split: NativeSplit, files: list[LabelFile]) -> bool:
    """Whether the converted files are there, complete, and no older than the label files."""
    try:
        with open(split.panoptic_json, encoding="utf-8") as stream:
            listed = {str(entry["image_id"]) for entry in json.load(stream)["annotations"]}
        written = os.path.getmtime(split.panoptic_json)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return (
        os.path.isdir(split.panoptic_root)
        and listed == {file.image_id for file in files}
        and all(os.path.getmtime(file.label) <= written for file in files)
    )


def _convert_files(split: NativeSplit, files: list[LabelFile], num_workers: int) -> None:
    todo = [file for file in files if _read_record(split, file) is None]
    work = functools.partial(_convert_file, split)
    with tqdm(
        total=len(files),
        initial=len(files) - len(todo),
        desc=split.title,
        unit=" images",
        disable=None,
    ) as bar:
        if num_workers <= 1 or len(todo) <= 1:
            for file in todo:
                work(file)
                bar.update()
            return
        pool = ProcessPoolExecutor(num_workers, initializer=_leave_interrupts_to_the_parent)
        try:
            for _ in pool.map(work, todo, chunksize=4):
                bar.update()
        except BrokenProcessPool as error:
            raise DatasetError(
                f"{split.panoptic_root}: a conversion process was killed or ran out of memory; run "
                "the same command again with fewer --workers: finished images are kept"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _convert_file(split: NativeSplit, file: LabelFile) -> None:
    """Check one label file, write its PNG, then its record."""
    segments, faults = examine(split, file)
    if segments is None or faults:
        more = len(faults) - 1
        also = f" (and {more} more; tools/check_dataset.py lists all)" if more else ""
        raise DatasetError(faults[0] + also)
    path = os.path.join(_partial(split), file.png_name)
    if split.write is None:
        write_id_map(path, segments.ids)
        info = segments.info
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        info = split.write(file, path)
    height, width = segments.ids.shape
    record = {"height": height, "width": width, "segments_info": info}
    write_atomically(_record_path(split, file), json.dumps(record))


def _finish(split: NativeSplit, files: list[LabelFile]) -> None:
    """Give the folder its name and write the JSON file."""
    images, annotations = [], []
    for file in files:
        record = _read_record(split, file)
        if record is None:
            raise DatasetError(
                f"{file.label}: changed while it was converted; run the same command again"
            )
        images.append(
            {
                "id": file.image_id,
                "file_name": file.image_name,
                "height": record["height"],
                "width": record["width"],
            }
        )
        annotations.append(
            {
                "image_id": file.image_id,
                "file_name": file.png_name,
                "segments_info": record["segments_info"],
            }
        )
    _remove_all_but(_partial(split), {file.png_name for file in files})
    _remove_png_folder(split.panoptic_root)
    os.replace(_partial(split), split.panoptic_root)
    categories = [
        {
            "id": category.id,
            "name": category.name,
            "isthing": int(category.is_thing),
            "color": list(category.color),
        }
        for category in split.categories
    ]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_atomically(split.panoptic_json, json.dumps(content))
    shutil.rmtree(_records(split))


def _resume(split: NativeSplit) -> None:
    """Put everything back where a run that was killed has left it."""
    killed_before_json = os.path.isdir(_records(split)) and not os.path.isdir(_partial(split))
    if killed_before_json and os.path.isdir(split.panoptic_root):
        os.replace(split.panoptic_root, _partial(split))
    os.makedirs(_partial(split), exist_ok=True)
    os.makedirs(_records(split), exist_ok=True)


def _read_record(split: NativeSplit, file: LabelFile) -> dict[str, Any] | None:
    """The record of an image whose PNG is there and no older than its label; else None."""
    path = _record_path(split, file)
    try:
        if os.path.getmtime(path) < os.path.getmtime(file.label):
            return None
        if not os.path.isfile(os.path.join(_partial(split), file.png_name)):
            return None
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return None


def _partial(split: NativeSplit) -> str:
    return f"{split.panoptic_root}.partial"


def _records(split: NativeSplit) -> str:
    return f"{split.panoptic_root}.records"


def _record_path(split: NativeSplit, file: LabelFile) -> str:
    return os.path.join(_records(split), f"{file.image_id}.json")


def _remove_file(path: str) -> None:
    if os.path.exists(path):
        os.remove(path)


def _remove_all_but(folder: str, kept: set[str]) -> None:
    """Delete temporary files of killed processes, and PNGs of images that are gone."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            if os.path.relpath(path, folder).replace(os.sep, "/") not in kept:
                os.remove(path)


def _remove_png_folder(folder: str) -> None:
    """Delete an older conversion, and nothing that no conversion has made."""
    if not os.path.isdir(folder):
        return
    for parent, _, names in os.walk(folder):
        for name in names:
            if not name.endswith(".png"):
                raise DatasetError(
                    f"{os.path.join(parent, name)}: not of a converted set; move {folder} away, "
                    "then run the same command again"
                )
    shutil.rmtree(folder)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _explain_os_errors(folder: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"{error.filename or folder}: cannot be written ({error.strerror or error}); free some "
            "space or choose another root, then run again: finished images are kept"
        ) from error
