"""How often something is done in the course of a training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """A probability that begins, grows and ends.

    Attributes:
        probability: at its full height, 0 to 1.
        start: first iteration.
        ramp: iterations in which it grows from 0, which it is at ``start``, in a straight line; 0:
            it is there at once.
        end: first iteration without; None: it stays.
    """

    probability: float
    start: int = 0
    ramp: int = 0
    end: int | None = None

    def at(self, iteration: int) -> float:
        """The probability at an iteration, counted from 0."""
        if iteration < self.start or (self.end is not None and iteration >= self.end):
            return 0.0
        grown = (iteration - self.start) / self.ramp if self.ramp else 1.0
        return self.probability * min(grown, 1.0)

    @property
    def ever(self) -> bool:
        """Whether it is above 0 at any iteration."""
        first = self.start + (1 if self.ramp else 0)
        return self.probability > 0 and (self.end is None or first < self.end)
