"""How much pseudo labels count over a training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from slotseg.errors import ConfigError

# The exponent of Tarvainen and Valpola (2017, section 3.1): the rise begins at exp(-5), 0.7 %.
_STEEPNESS = 5.0


@dataclass(frozen=True)
class RampUp:
    """0, then a smooth rise, then a constant (``SEMI.WEIGHT``, ``START``, ``RAMP``).

    Attributes:
        weight: the constant.
        start: first iteration above 0.
        length: iterations of the rise; 0: none.

    Raises:
        ConfigError: one of these is negative.
    """

    weight: float = 1.0
    start: int = 0
    length: int = 0

    def __post_init__(self) -> None:
        named = {"WEIGHT": self.weight, "START": self.start, "RAMP": self.length}
        for key, value in named.items():
            if value < 0:
                raise ConfigError(f"SEMI.{key}: {value} should be at least 0")

    def __call__(self, iteration: int) -> float:
        """The weight at ``iteration``."""
        if iteration < self.start:
            return 0.0
        if iteration >= self.start + self.length:
            return self.weight
        left = 1.0 - (iteration - self.start) / self.length
        return self.weight * math.exp(-_STEEPNESS * left**2)
