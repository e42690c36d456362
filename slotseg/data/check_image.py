"""What looking at one image of a data set brings to light."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        file: where.
        what: one line, with the id where there is one.
        breaks_training: False for what only makes labels or scores worse.
    """

    file: str
    what: str
    breaks_training: bool = True

    @classmethod
    def from_message(
        cls, message: object, file: str | None = None, breaks_training: bool = True
    ) -> Fault:
        """From an error or line that begins with its file, as all of this project do."""
        text = " ".join(str(message).split())
        head, _, tail = text.partition(": ")
        if file is None:
            file, what = (head, tail) if tail else ("", text)
        else:
            what = text.removeprefix(f"{file}: ")
        return cls(file, what, breaks_training)

    def __str__(self) -> str:
        kind = "breaks training" if self.breaks_training else "warning"
        return f"{kind}: {self.file}: {self.what}"


@dataclass
class ClassCounts:
    """Of every class, int64 ``[C]``: images that have it, segments, crowds among them, pixels."""

    images: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    segments: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    crowds: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def zeros(cls, num_classes: int) -> ClassCounts:
        """Nothing counted yet."""
        return cls(*(np.zeros(num_classes, np.int64) for _ in range(4)))

    def __iadd__(self, other: ClassCounts) -> ClassCounts:
        self.images += other.images
        self.segments += other.segments
        self.crowds += other.crowds
        self.pixels += other.pixels
        return self

    def of(self, number: int) -> dict[str, int]:
        """The counts of one class."""
        return {
            "images": int(self.images[number]),
            "segments": int(self.segments[number]),
            "crowds": int(self.crowds[number]),
            "pixels": int(self.pixels[number]),
        }


@dataclass
class ImageReport:
    """Faults and counts of one image; ``void`` in pixels."""

    counts: ClassCounts
    faults: list[Fault] = field(default_factory=list)
    void: int = 0
