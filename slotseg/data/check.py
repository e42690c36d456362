"""Everything that is wrong with a registered data set, in one pass (``tools/check_dataset.py``)."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any

from detectron2.data import DatasetCatalog
from tabulate import tabulate
from tqdm import tqdm

from slotseg.data.check_image import ClassCounts, Fault, ImageReport
from slotseg.data.check_panoptic import examine_panoptic, panoptic_classes, panoptic_entries
from slotseg.data.check_panoptic import unlisted_files as unlisted_panoptic_files
from slotseg.data.check_scenes import SCENE_CLASSES, examine_scene, scene_entries
from slotseg.data.datasets.native import native_faults
from slotseg.data.mappers import dataset_kind
from slotseg.errors import ConfigError, DatasetError

# Images that a worker process gets at once.
_CHUNK = 4


@dataclass
class DatasetReport:
    """What :func:`check_dataset` found.

    Attributes:
        name: of the set.
        images: number of images that were opened.
        classes: (name, "thing" or "stuff") one a class.
        counts: segments, crowds, images and pixels of every class.
        void: pixels without a class.
        faults: in the order of the set.
    """

    name: str
    images: int = 0
    classes: list[tuple[str, str]] = field(default_factory=list)
    counts: ClassCounts = field(default_factory=ClassCounts)
    void: int = 0
    faults: list[Fault] = field(default_factory=list)

    @property
    def breaks_training(self) -> bool:
        """Whether a training on this set would stop with an error sooner or later."""
        return any(fault.breaks_training for fault in self.faults)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "images": self.images,
            "breaks_training": self.breaks_training,
            "void_pixels": self.void,
            "classes": [
                {"name": name, "kind": kind, **self.counts.of(number)}
                for number, (name, kind) in enumerate(self.classes)
            ],
            "faults": [
                {
                    "file": fault.file,
                    "fault": fault.what,
                    "breaks_training": fault.breaks_training,
                }
                for fault in self.faults
            ],
        }


def check_dataset(name: str, *, workers: int = 0, progress: bool = True) -> DatasetReport:
    """Open every file of a registered set and compare it with what the set lists.

    A fault never stops the search. Sets of ``evaluator_type`` "panoptic" and "slots" are known.

    Args:
        name: data set name.
        workers: processes that open files; 0 opens them in this one.
        progress: show bars.

    Raises:
        ConfigError: unknown set, one of another kind, or a negative number of workers.
        DatasetError: a worker process died.
    """
    if name not in DatasetCatalog:
        near = difflib.get_close_matches(name, DatasetCatalog.list(), n=3, cutoff=0.6)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise ConfigError(f"no data set {name!r} is registered{hint}")
    if workers < 0:
        raise ConfigError(f"{workers} workers, expected 0 or more")
    kind = dataset_kind(name)
    if kind == "panoptic":
        entries, faults = panoptic_entries(name)
        classes = panoptic_classes(name)
        examine = functools.partial(examine_panoptic, classes=classes)
    elif kind == "slots":
        entries, faults = scene_entries(name)
        classes, examine = SCENE_CLASSES, examine_scene
    else:
        raise ConfigError(f"{name} has evaluator_type {kind!r}; panoptic sets and scenes are known")
    report = DatasetReport(name, len(entries), classes, ClassCounts.zeros(len(classes)))
    report.faults += faults
    bar = tqdm(total=len(entries), desc=name, unit=" images", disable=None if progress else True)
    with bar:
        for found in _map(examine, entries, workers):
            report.faults += found.faults
            report.counts += found.counts
            report.void += found.void
            bar.update()
    if kind == "panoptic":
        report.faults += unlisted_panoptic_files(name, entries)
        report.faults += [
            Fault.from_message(message, breaks_training=False)
            for message in native_faults(name, progress, workers)
        ]
    return report


def format_report(report: DatasetReport) -> str:
    """The report as text: a table of classes, every fault in a line, and a verdict."""
    pixels = max(int(report.counts.pixels.sum()) + report.void, 1)
    rows = [
        [
            name,
            kind,
            int(report.counts.images[number]),
            int(report.counts.segments[number]),
            int(report.counts.crowds[number]),
            f"{100 * report.counts.pixels[number] / pixels:.3f}",
        ]
        for number, (name, kind) in enumerate(report.classes)
    ]
    rows.append(["(void)", "", "", "", "", f"{100 * report.void / pixels:.3f}"])
    header = ["class", "kind", "images", "segments", "crowds", "% of pixels"]
    lines = [f"{report.name}: {report.images} images", ""]
    lines += [tabulate(rows, header, tablefmt="simple", disable_numparse=True), ""]
    lines += [str(fault) for fault in report.faults]
    breaking = sum(fault.breaks_training for fault in report.faults)
    warnings = len(report.faults) - breaking
    verdict = f"faults that break training: {breaking}" if breaking else "training would not break"
    lines.append(f"{report.name}: {verdict}, warnings: {warnings}")
    return "\n".join(lines)


def _map(
    examine: Callable[[dict[str, Any]], ImageReport],
    entries: list[dict[str, Any]],
    workers: int,
) -> Iterator[ImageReport]:
    """The report of every image, in order."""
    if not workers:
        yield from map(examine, entries)
        return
    with ProcessPoolExecutor(workers) as pool:
        results: Iterable[ImageReport] = pool.map(examine, entries, chunksize=_CHUNK)
        try:
            yield from results
        except BrokenProcessPool as error:
            raise DatasetError(
                "a worker process died, killed or out of memory; use fewer workers, or 0 to see "
                "the cause"
            ) from error
