"""Published figures, to be shown beside measured ones and never among them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import yaml

from slotseg.errors import ConfigError

_FILE = "published_numbers.yaml"


@dataclass(frozen=True)
class PublishedRow:
    """One published result.

    Attributes:
        method: as its authors call it, with its backbone.
        scores: by name, in the units of the file.
        source: where the figures stand.
        note: what is special about this row.
    """

    method: str
    scores: dict[str, float]
    source: str
    note: str = ""


@dataclass(frozen=True)
class Published:
    """The published results on one benchmark, with what has to be known about its protocol."""

    title: str
    protocol: str
    rows: tuple[PublishedRow, ...]

    @property
    def score_names(self) -> list[str]:
        """All scores that any row has, in order."""
        return list(dict.fromkeys(name for row in self.rows for name in row.scores))


def published_names() -> list[str]:
    """The benchmarks that there are figures for."""
    return list(_content())


def load_published(name: str) -> Published:
    """The figures on one benchmark.

    Raises:
        ConfigError: there are none.
    """
    if name not in _content():
        raise ConfigError(f"--published: no figures for {name!r}; choose {', '.join(_content())}")
    entry = _content()[name]
    rows = tuple(
        PublishedRow(
            row["method"],
            {score: float(value) for score, value in row["scores"].items()},
            row["source"],
            row.get("note", ""),
        )
        for row in entry["rows"]
    )
    return Published(entry["title"], " ".join(entry["protocol"].split()), rows)


@lru_cache(maxsize=1)
def _content() -> dict[str, Any]:
    text = resources.files("slotseg.comparison").joinpath(_FILE).read_text(encoding="utf-8")
    return yaml.safe_load(text)
