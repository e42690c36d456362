"""One split of scenes on disk: written so that a killed run can go on, read with checks.

Layout of a finished split (``<folder>``)::

    scenes.json         {"format", "version", "source", "image_size": [H, W], "scenes": [...]}
    images/000000.png   8-bit RGB
    masks/000000.png    8-bit grey: 0 background, i = objects[i - 1] of the scene, 255 void

Until it is finished, everything lies in ``<folder>.partial`` with one ``scenes/000000.json`` a
scene; the split appears under its name only when it is complete.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from detectron2.utils.file_io import PathManager
from PIL import Image

from slotseg.errors import DatasetError
from slotseg.files import name_fault, write_atomically

FORMAT = "slotseg-scenes"
VERSION = 1
VOID = 255
"""Mask value of pixels that belong neither to the background nor to a listed object."""

_INDEX_FILE = "scenes.json"
_SOURCE_FILE = "source.json"
_SCENE_DIR, _IMAGE_DIR, _MASK_DIR = "scenes", "images", "masks"
_OWN_NAMES = {_INDEX_FILE, _SOURCE_FILE, _SCENE_DIR, _IMAGE_DIR, _MASK_DIR}
_SCENE_NAME = re.compile(r"(\d{6,})\.json")
# Every whole PNG ends with this chunk, so a file cut short by a power failure lacks it.
_PNG_END = bytes.fromhex("0000000049454e44ae426082")


class SceneWriter:
    """Writes the scenes of one split from any number of processes, in any order.

    Every file is written under a temporary name and renamed, and a scene counts as done only once
    all of its files are there; so a run that is killed at any moment goes on with the scenes
    that are missing. Instances can be pickled and used from several processes at once.

    Args:
        folder: the split's final folder, on a local file system.
        image_size: (height, width) of all images, in pixels.
        source: what the scenes are made from (generator parameters, seed, file names); anything
            that JSON can hold. Unfinished work from a different source or size is discarded.

    Raises:
        DatasetError: the folder (or its ``.partial``) holds files that are not of a scene
            folder and would have to be deleted, or it cannot be written.
    """

    def __init__(self, folder: str, image_size: tuple[int, int], source: dict[str, Any]) -> None:
        self.folder = os.path.abspath(PathManager.get_local_path(folder))
        self.partial = f"{self.folder}.partial"
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.source = json.loads(_to_json(source))
        # Looked at now, not after hours of rendering.
        _refuse_foreign_files(self.folder)
        with explain_os_errors(self.partial):
            if self._header_on_disk() != self._header():
                _remove_scene_folder(self.partial)
            for name in (_SCENE_DIR, _IMAGE_DIR, _MASK_DIR):
                os.makedirs(os.path.join(self.partial, name), exist_ok=True)
            write_atomically(os.path.join(self.partial, _SOURCE_FILE), _to_json(self._header()))

    def done(self) -> set[int]:
        """Indices of the scenes whose files are all on disk and whole."""
        return {i for i, scene in self._records().items() if self._files_are_whole(scene)}

    def write(
        self,
        index: int,
        image: np.ndarray,
        mask: np.ndarray | None,
        objects: list[dict[str, Any]],
    ) -> None:
        """Write scene number ``index``, replacing an earlier one.

        Args:
            index: scene number, from 0.
            image: uint8 array [H, W, 3], RGB.
            mask: uint8 array [H, W]: 0 background, i = ``objects[i - 1]``, 255 void; or None.
            objects: attributes of each object; NumPy numbers and arrays are fine.

        Raises:
            DatasetError: arrays of the wrong shape, type or values, or a disk that is full.
        """
        self._check(index, image, mask, len(objects))
        scene = {
            "image": f"{_IMAGE_DIR}/{index:06d}.png",
            "mask": None if mask is None else f"{_MASK_DIR}/{index:06d}.png",
            "objects": objects,
        }
        with explain_os_errors(self.partial):
            write_atomically(os.path.join(self.partial, scene["image"]), _encode_png(image))
            if mask is not None:
                write_atomically(os.path.join(self.partial, scene["mask"]), _encode_png(mask))
            # Last, because this file says that the scene is done.
            write_atomically(self._scene_file(index), _to_json(scene))

    def finish(self, num_scenes: int) -> None:
        """Merge scenes 0 .. ``num_scenes - 1`` into ``scenes.json`` and give the split its name.

        Scenes with higher numbers are dropped. An older split under that name is replaced.

        Raises:
            DatasetError: scenes are missing, or the disk is full; what was written stays and
                the next run goes on from there.
        """
        scenes = {i: scene for i, scene in self._records().items() if i < num_scenes}
        whole = {i for i, scene in scenes.items() if self._files_are_whole(scene)}
        missing = sorted(set(range(num_scenes)) - whole)
        if missing or num_scenes < 1:
            raise DatasetError(
                f"{self.partial}: {len(missing)} of {num_scenes} scenes are missing (first: "
                f"{missing[0] if missing else 'all'}); run the same command again to add them"
            )
        with explain_os_errors(self.partial):
            self._drop_files_but_those_of(scenes)
            index_file = os.path.join(self.partial, _INDEX_FILE)
            write_atomically(index_file, self._index([scenes[i] for i in range(num_scenes)]))
            # Nothing has waited for the disk so far; everything does now.
            os.sync()
            # Only now: until scenes.json is safe, these files are the record of what is done.
            shutil.rmtree(os.path.join(self.partial, _SCENE_DIR))
            os.remove(os.path.join(self.partial, _SOURCE_FILE))
            self._rename()

    def _header(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "source": self.source,
            "image_size": list(self.image_size),
        }

    def _index(self, scenes: list[dict[str, Any]]) -> str:
        """``scenes.json`` with one scene a line, so that people can read and compare it."""
        header = _to_json(self._header())[:-1]
        lines = ",\n".join(_to_json(scene) for scene in scenes)
        return f'{header}, "scenes": [\n{lines}\n]}}\n'

    def _scene_file(self, index: int) -> str:
        return os.path.join(self.partial, _SCENE_DIR, f"{index:06d}.json")

    def _header_on_disk(self) -> dict[str, Any] | None:
        """What the unfinished work was made from; None where that is not known."""
        merged = _read_json(os.path.join(self.partial, _INDEX_FILE))
        if merged is not None:  # killed between merging and renaming
            return {key: merged.get(key) for key in self._header()}
        return _read_json(os.path.join(self.partial, _SOURCE_FILE))

    def _records(self) -> dict[int, dict[str, Any]]:
        """Every scene on disk by its number, its pictures whole or not."""
        merged = _read_json(os.path.join(self.partial, _INDEX_FILE)) or {"scenes": []}
        records = dict(enumerate(merged["scenes"]))
        for name in _ls(os.path.join(self.partial, _SCENE_DIR)):
            match = _SCENE_NAME.fullmatch(name)
            scene = match and _read_json(os.path.join(self.partial, _SCENE_DIR, name))
            if scene:
                records[int(match.group(1))] = scene
        return records

    def _files_are_whole(self, scene: dict[str, Any]) -> bool:
        names = [scene["image"]] if scene["mask"] is None else [scene["image"], scene["mask"]]
        return all(_is_whole_png(os.path.join(self.partial, name)) for name in names)

    def _drop_files_but_those_of(self, scenes: dict[int, dict[str, Any]]) -> None:
        """Delete temporary files of killed processes and pictures of dropped scenes."""
        kept = {scene[key] for scene in scenes.values() for key in ("image", "mask")}
        for directory in (_IMAGE_DIR, _MASK_DIR):
            for name in _ls(os.path.join(self.partial, directory)):
                if f"{directory}/{name}" not in kept:
                    os.remove(os.path.join(self.partial, directory, name))
        for name in _ls(self.partial):
            if name not in _OWN_NAMES:
                os.remove(os.path.join(self.partial, name))
        if not _ls(os.path.join(self.partial, _MASK_DIR)):
            shutil.rmtree(os.path.join(self.partial, _MASK_DIR), ignore_errors=True)

    def _rename(self) -> None:
        _refuse_foreign_files(self.folder)
        if os.path.isdir(self.folder):
            # A folder cannot be renamed onto a full one. If the process dies in between, the
            # complete new split is still there as .partial and the next run only renames it.
            _remove_scene_folder(self.folder)
        os.replace(self.partial, self.folder)
        _sync_directory(os.path.dirname(self.folder))

    def _check(
        self, index: int, image: np.ndarray, mask: np.ndarray | None, num_objects: int
    ) -> None:
        where = f"{self.folder}: scene {index}"
        if index < 0:
            raise DatasetError(f"{where}: scene numbers start at 0")
        if image.shape != (*self.image_size, 3) or image.dtype != np.uint8:
            raise DatasetError(
                f"{where}: the image is {image.dtype} {list(image.shape)}, expected uint8 "
                f"{[*self.image_size, 3]}"
            )
        if num_objects >= VOID:
            raise DatasetError(f"{where}: {num_objects} objects, a mask can hold {VOID - 1}")
        if mask is None:
            return
        if mask.shape != self.image_size or mask.dtype != np.uint8:
            raise DatasetError(
                f"{where}: the mask is {mask.dtype} {list(mask.shape)}, expected uint8 "
                f"{list(self.image_size)}"
            )
        highest = int(mask[mask != VOID].max(initial=0))
        if highest > num_objects:
            raise DatasetError(
                f"{where}: the mask holds object {highest}, but only {num_objects} are listed"
            )


def is_complete(
    folder: str, source: dict[str, Any] | None = None, num_scenes: int | None = None
) -> bool:
    """Whether ``folder`` is a finished split: of this source and this many scenes, if given."""
    try:
        scenes = load_scenes(folder)
    except DatasetError:
        return False
    return (source is None or scenes["source"] == json.loads(_to_json(source))) and (
        num_scenes is None or len(scenes["scenes"]) == num_scenes
    )


def load_scenes(folder: str) -> dict[str, Any]:
    """Read and check ``<folder>/scenes.json``; the pictures are not opened.

    Returns:
        The parsed file: ``{"format", "version", "source", "image_size": [H, W], "scenes"}``,
        ``scenes`` a list of ``{"image", "mask", "objects"}`` with paths relative to ``folder``.

    Raises:
        DatasetError: the file is missing, cut short, of another format or version, or lacks
            fields; the message names the file and, where it is one scene, its number.
    """
    path = os.path.join(folder, _INDEX_FILE)
    try:
        with PathManager.open(path, "r", encoding="utf-8") as file:
            content = json.load(file)
    except OSError as error:
        unfinished = os.path.join(f"{folder.rstrip('/')}.partial", _SOURCE_FILE)
        hint = (
            "an unfinished one lies beside it, run the command that makes it again"
            if PathManager.exists(unfinished)
            else "check the folder, or make the data set first"
        )
        raise DatasetError(f"{path}: no scenes here ({error.strerror or error}); {hint}") from error
    except ValueError as error:  # JSON and UTF-8 errors
        raise DatasetError(
            f"{path}: damaged or cut short ({_one_line(error)}); delete the folder and make it "
            "again"
        ) from error
    problem = next(find_problems(content), None)
    if problem:
        raise DatasetError(f"{path}: {problem}")
    return content


def find_problems(content: Any) -> Iterator[str]:
    """Everything that is wrong with a parsed ``scenes.json``, one line each, without its name."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        yield f'not a scene list (its "format" is not "{FORMAT}"); is this the right folder?'
        return
    if content.get("version") != VERSION:
        yield (
            f"layout version {content.get('version')!r}, this SlotSeg reads version {VERSION}; "
            "make the data set again, or update SlotSeg"
        )
        return
    size = content.get("image_size")
    if not (
        isinstance(size, list) and len(size) == 2 and all(type(n) is int and n > 0 for n in size)
    ):
        yield f'"image_size" is {size!r}, expected [height, width] in pixels'
    if not isinstance(content.get("source"), dict):
        yield '"source" is missing; delete the folder and make it again'
    scenes = content.get("scenes")
    if not isinstance(scenes, list) or not scenes:
        yield "it lists no scenes; delete the folder and make it again"
        return
    for index, scene in enumerate(scenes):
        problem = _find_scene_problem(scene)
        if problem:
            yield f"scene {index}: {problem}"


def _find_scene_problem(scene: Any) -> str | None:
    if not isinstance(scene, dict):
        return f"expected an object, found {type(scene).__name__}"
    for key in ("image", "mask", "objects"):
        if key not in scene:
            return f'"{key}" is missing'
    for key in ("image", "mask"):
        name = scene[key]
        if key == "mask" and name is None:
            continue
        if fault := name_fault(key, name):
            return fault
    objects = scene["objects"]
    if not isinstance(objects, list) or not all(isinstance(entry, dict) for entry in objects):
        return '"objects" is not a list of objects with attributes'
    if len(objects) >= VOID:
        return f"{len(objects)} objects, a mask can hold {VOID - 1}"
    return None


def _to_json(value: Any) -> str:
    try:
        return json.dumps(value, default=_plain, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"scene attributes cannot be stored: {_one_line(error)}") from error


def _plain(value: Any) -> Any:
    """NumPy numbers and arrays as Python ones; everything else JSON refuses anyway."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _read_json(path: str) -> Any:
    """Parsed file, or None where it is missing or damaged."""
    try:
        with PathManager.open(path, "r", encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def _encode_png(array: np.ndarray) -> bytes:
    # Zlib's middle level: the file is written once and decoded every epoch, and it decodes a
    # quarter faster than at the fast levels.
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def _is_whole_png(path: str) -> bool:
    try:
        with PathManager.open(path, "rb") as file:
            file.seek(-len(_PNG_END), os.SEEK_END)
            return file.read() == _PNG_END
    except OSError:
        return False


def _sync_directory(path: str) -> None:
    """Make renames in a folder survive a power failure, where the system can do that."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _ls(path: str) -> list[str]:
    return sorted(PathManager.ls(path)) if PathManager.isdir(path) else []


def _refuse_foreign_files(folder: str) -> None:
    """Nothing is deleted that a scene writer has not made."""
    foreign = [name for name in _ls(folder) if name not in _OWN_NAMES and ".partial-" not in name]
    if foreign or os.path.isfile(folder):
        what = "is a file" if os.path.isfile(folder) else f"holds other files ({foreign[0]})"
        raise DatasetError(f"{folder}: {what}; move it away or choose another folder")


def _remove_scene_folder(folder: str) -> None:
    _refuse_foreign_files(folder)
    if not os.path.isdir(folder):
        return
    # The record of what is inside goes first: a removal that is cut short must not leave a
    # folder that looks complete.
    for name in (_INDEX_FILE, _SOURCE_FILE):
        if os.path.exists(os.path.join(folder, name)):
            os.remove(os.path.join(folder, name))
    shutil.rmtree(folder)


@contextmanager
def explain_os_errors(folder: str) -> Iterator[None]:
    """Turn what the system says while scenes are written below ``folder`` into one line."""
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"{error.filename or folder}: cannot be written ({error.strerror or error}); free some "
            "space or choose another folder, then run again: finished scenes are kept"
        ) from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
