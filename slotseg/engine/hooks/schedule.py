"""When a hook acts."""

from __future__ import annotations


def is_due(iteration: int, period: int, max_iter: int) -> bool:
    """Whether ``iteration`` (from 0) ends a period, or the training; period 0: only the latter."""
    done = iteration + 1
    return done >= max_iter or (period > 0 and done % period == 0)
