"""Lists of images in text files: which images of a data set have their labels."""

from __future__ import annotations

import difflib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from detectron2.utils.file_io import PathManager

from slotseg.errors import DatasetError
from slotseg.files import write_atomically


def read_list(path: str, dicts: Sequence[dict[str, Any]]) -> list[int]:
    """Indices of the images that a text file names, one a line, in its order.

    An image is named by its ``image_id``, or by its file: the name with or without its ending,
    after as many folders as are needed to tell it from others. Empty lines and what follows a
    ``#`` at the start of a line or after a space do not count; an image that is named twice counts
    once.

    Raises:
        DatasetError: the file cannot be read, names no image at all, one that is not in ``dicts``,
            or one of several that it might be.
    """
    lines = _read_lines(path)
    by_id, by_file = _index_names(dicts)
    found: dict[int, None] = {}
    for number, name in lines:
        # An id means its image, whatever files are called.
        candidates = by_id.get(name) or by_file.get(name, ())
        if not candidates and "/" in name:
            candidates = _by_end_of_path(name, dicts, by_file)
        if len(candidates) == 1:
            found[candidates[0]] = None
            continue
        if candidates:
            files = ", ".join(dicts[index]["file_name"] for index in candidates[:2])
            raise DatasetError(
                f"{path}: line {number}: {name!r} fits {len(candidates)} images, among them "
                f"{files}; write more of its path"
            )
        near = difflib.get_close_matches(name, {**by_id, **by_file}, n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DatasetError(
            f"{path}: line {number}: {name!r} is neither the image_id nor the file of one of the "
            f"{len(dicts)} training images{hint}"
        )
    if not found:
        raise DatasetError(f"{path}: names no image, so none would be labelled; add one a line")
    return list(found)


def write_list(
    path: str,
    dicts: Iterable[dict[str, Any]],
    others: Iterable[dict[str, Any]] = (),
    comment: str = "",
) -> None:
    """Name images as :func:`read_list` reads them: by ``image_id``, or by the path of the file
    where several sets have images with that id.

    Args:
        path: of the text file.
        dicts: data set dicts of the images.
        others: of the other images of these sets.
        comment: lines to begin with.
    """
    listed = list(dicts)
    images_of = Counter(str(entry["image_id"]) for entry in (*listed, *others))
    names = (
        name if images_of[name := str(entry["image_id"])] == 1 else entry["file_name"]
        for entry in listed
    )
    head = (f"# {line}" for line in comment.splitlines())
    write_atomically(path, "\n".join([*head, *names]) + "\n")


def _read_lines(path: str) -> list[tuple[int, str]]:
    """Line numbers from 1 and names."""
    try:
        with PathManager.open(path, "r", encoding="utf-8-sig") as file:
            content = file.read()
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be read ({error.strerror or error}); DATASETS.LABELED_LIST is a text "
            "file with one image a line"
        ) from error
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path}: is no text in UTF-8; DATASETS.LABELED_LIST is a file with one image a line"
        ) from error
    lines = (
        (number, f" {line}".split(" #")[0].strip())
        for number, line in enumerate(content.splitlines(), start=1)
    )
    return [(number, name) for number, name in lines if name]


def _index_names(
    dicts: Sequence[dict[str, Any]],
) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """The images that have an id, and those whose file has a name, with or without its ending."""
    by_id: dict[str, list[int]] = defaultdict(list)
    by_file: dict[str, list[int]] = defaultdict(list)
    for index, entry in enumerate(dicts):
        by_id[str(entry["image_id"])].append(index)
        base = os.path.basename(entry["file_name"])
        for name in dict.fromkeys((base, os.path.splitext(base)[0])):
            by_file[name].append(index)
    return by_id, by_file


def _by_end_of_path(
    name: str, dicts: Sequence[dict[str, Any]], by_file: dict[str, list[int]]
) -> list[int]:
    """The images whose path, with or without its ending, ends with the folders and name given."""
    wanted = os.path.normpath(name)
    return [
        index
        for index in by_file.get(os.path.basename(wanted), ())
        if any(
            f"/{path}".endswith(f"/{wanted.lstrip('/')}")
            for path in (dicts[index]["file_name"], os.path.splitext(dicts[index]["file_name"])[0])
        )
    ]
