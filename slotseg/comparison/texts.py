"""Numbers as tables show them."""

from __future__ import annotations

import math

UNKNOWN = "–"


def digits(value: float | None) -> str:
    """Three significant digits, without exponent."""
    if value is None:
        return UNKNOWN
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def whole(value: float | None) -> str:
    """To the nearest whole number."""
    return UNKNOWN if value is None else f"{value:.0f}"


def mib(value: float | None) -> str:
    """An amount of memory."""
    return UNKNOWN if value is None else f"{value:.0f} MiB"
