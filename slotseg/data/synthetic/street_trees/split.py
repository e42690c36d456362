"""Writing a split of street scenes: in parallel, and going on after an interruption.

A split is written to ``<root>/<split>.partial``, laid out as the tree, and its folders are moved
to their places when all scenes are there. ``<root>/generated_<split>.json``, written last, says
what is in it, so whoever sees that file sees a complete split.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
from tqdm import tqdm

from slotseg.data.scene_folder import explain_os_errors
from slotseg.data.synthetic.processes import write_in_processes
from slotseg.data.synthetic.street_trees.tree import SPLITS, StreetTree
from slotseg.data.synthetic.streets import GENERATOR_VERSION, render_street
from slotseg.errors import ConfigError, DatasetError
from slotseg.files import write_atomically

_SOURCE_FILE = "source.json"
_ALL_WRITTEN = "all_written"


def write_street_split(
    tree: StreetTree,
    root: str,
    split: str,
    num_scenes: int,
    size: tuple[int, int] | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> bool:
    """Write scenes 0 .. ``num_scenes - 1`` of one split into a tree.

    A finished split of the same scenes is left alone, an unfinished one is completed, and a
    generated one of other scenes is replaced. The result does not depend on ``workers``.

    Args:
        tree: the layout.
        root: folder of the set, for instance ``datasets/streets_generated/cityscapes``.
        split: "train", "tune" or "val"; they never share a scene.
        num_scenes: how many.
        size: (height, width) of the pictures; None for the tree's own.
        seed: of the whole set; trees and splits draw from it independently.
        workers: processes; None for as many as this process may use processors.
        progress: show a progress bar with the time left.

    Returns:
        Whether anything had to be done.

    Raises:
        ConfigError: an argument is out of range.
        DatasetError: files that were not generated are in the way, the folder cannot be written,
            or a worker process died. Scenes that are finished stay on disk, and the same call goes
            on from there.
    """
    workers = _usable_processors() if workers is None else workers
    if split not in SPLITS:
        raise ConfigError(f"split {split!r}: unknown, choose of {', '.join(SPLITS)}")
    if num_scenes < 1 or workers < 1 or seed < 0:
        raise ConfigError(
            f"{root}: {num_scenes} scenes with {workers} workers from seed {seed}; at least 1, 1, 0"
        )
    height, width = size or tree.size
    if min(height, width) < 16:
        raise ConfigError(f"{root}: size {height} x {width}; at least 16 pixels each way")
    source = {
        "generator": "streets",
        "version": GENERATOR_VERSION,
        "tree": tree.name,
        "split": split,
        "seed": int(seed),
        "size": [int(height), int(width)],
        "scenes": int(num_scenes),
    }
    job = _Job(tree, root, split, source)
    if job.is_done():
        return False
    with explain_os_errors(root):
        job.prepare()
        if not os.path.exists(job.in_partial(_ALL_WRITTEN)):
            missing = [index for index in range(num_scenes) if not job.has_scene(index)]
            with tqdm(
                total=num_scenes,
                initial=num_scenes - len(missing),
                desc=f"{tree.name} {split}",
                unit="scene",
                disable=None if progress else True,
            ) as bar:
                _write_all(job, missing, workers, bar)
            job.summarize()
        job.finish()
    return True


class _Job:
    """Files of one split, under way and finished."""

    def __init__(self, tree: StreetTree, root: str, split: str, source: dict[str, Any]) -> None:
        self.tree, self.root, self.split, self.source = tree, root, split, source
        self.partial = os.path.join(root, f"{split}.partial")
        self.marker = os.path.join(root, f"generated_{split}.json")
        # Independent streams: no two trees or splits share a scene of one seed.
        self.stream = (source["seed"] * 100 + tree.stream) * len(SPLITS) + SPLITS.index(split)

    def in_partial(self, path: str) -> str:
        return os.path.join(self.partial, path)

    def is_done(self) -> bool:
        return _read_json(self.marker) == self.source and all(
            os.path.exists(os.path.join(self.root, folder))
            for folder in self.tree.folders(self.split)
        )

    def prepare(self) -> None:
        """Make room: an unfinished split of other scenes goes, as does a finished one."""
        if _read_json(self.in_partial(_SOURCE_FILE)) != self.source:
            self._refuse_foreign_files()
            shutil.rmtree(self.partial, ignore_errors=True)
            write_atomically(self.in_partial(_SOURCE_FILE), json.dumps(self.source))

    def _refuse_foreign_files(self) -> None:
        """Nothing is replaced that was not generated: the trees look like those of real sets."""
        if os.path.exists(self.marker) or os.path.exists(self.in_partial(_SOURCE_FILE)):
            return
        for folder in self.tree.folders(self.split):
            path = os.path.join(self.root, folder)
            if os.path.exists(path):
                raise DatasetError(
                    f"{path}: exists and was not generated by this tool; move it away or choose "
                    "another --output"
                )

    def has_scene(self, index: int) -> bool:
        files = self.tree.scene_files(self.split, index)
        return all(os.path.exists(self.in_partial(path)) for path in files)

    def write_scenes(self, indices: list[int]) -> int:
        for index in indices:
            scene = render_street(self.stream, index, tuple(self.source["size"]), self.tree.style)
            contents = self.tree.encode(self.split, index, scene)
            for path, content in zip(
                self.tree.scene_files(self.split, index), contents, strict=True
            ):
                write_atomically(self.in_partial(path), content)
        return len(indices)

    def summarize(self) -> None:
        files = self.tree.summarize(self.split, self.source["scenes"], self.partial)
        for path, content in files.items():
            write_atomically(self.in_partial(path), content)
        write_atomically(self.in_partial(_ALL_WRITTEN), "")

    def finish(self) -> None:
        """Move the folders to their places; a move that was cut short is completed."""
        # The record of what was there goes first: nothing half replaced may look complete.
        if os.path.exists(self.marker):
            os.remove(self.marker)
        for folder in self.tree.folders(self.split):
            made, place = self.in_partial(folder), os.path.join(self.root, folder)
            if not os.path.exists(made):
                continue  # moved before an interruption
            if os.path.isdir(place):
                shutil.rmtree(place)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            os.replace(made, place)
        write_atomically(self.marker, json.dumps(self.source))
        shutil.rmtree(self.partial)


def _write_all(job: _Job, missing: list[int], workers: int, bar: tqdm) -> None:
    if workers == 1:
        for index in missing:
            bar.update(job.write_scenes([index]))
        return
    with _single_threaded_opencv():
        write_in_processes(
            job.write_scenes,
            missing,
            workers,
            bar,
            folder=job.partial,
            initializer=_prepare_worker,
        )


@contextmanager
def _single_threaded_opencv() -> Iterator[None]:
    """OpenCV without threads, which a forked worker would inherit in name only and wait for."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _prepare_worker() -> None:
    """Leave Ctrl-C, which the terminal sends to all processes, to the one that waits."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _usable_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read_json(path: str) -> Any:
    """Parsed file, or None where it is missing or damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None
