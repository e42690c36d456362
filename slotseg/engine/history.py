"""Curves of a resumed run: take back what it is about to write again."""

from __future__ import annotations

import json

from detectron2.utils.file_io import PathManager

from slotseg.files import write_atomically


def drop_lines_from(path: str, iteration: int) -> int:
    """Remove the lines of a JSON-lines file whose ``iteration`` is ``iteration`` or later.

    A last line that a kill cut short goes too. The file is replaced only if something goes.

    Returns:
        How many lines went.
    """
    if not PathManager.isfile(path):
        return 0
    with PathManager.open(path, "r") as file:
        lines = file.read().splitlines()
    kept = [line for line in lines if _belongs_before(line, iteration)]
    if len(kept) < len(lines):
        write_atomically(path, "".join(f"{line}\n" for line in kept))
    return len(lines) - len(kept)


def _belongs_before(line: str, iteration: int) -> bool:
    try:
        return int(json.loads(line)["iteration"]) < iteration
    except (ValueError, KeyError, TypeError):
        return False
