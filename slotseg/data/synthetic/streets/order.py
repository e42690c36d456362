"""In which order upright things are painted."""

from __future__ import annotations

import numpy as np


def painting_order(boxes: np.ndarray, camera_t: float) -> list[int]:
    """Order of items so that what is hidden is painted before what hides it.

    Of two items one hides the other if it ends before the other begins. Where both have a stretch
    of the street in common, the one that is closer to the camera's line hides the other; where
    they share that too, the one with the nearer middle does. Circles of such relations, which
    long things can form, are broken at the farthest item.

    Args:
        boxes: float [N, 4], left, right, near and far end of each ground plan.
        camera_t: lateral position of the camera.

    Returns:
        Item numbers, first to last painted.
    """
    if not len(boxes):
        return []
    left, right, near, far = (boxes[:, k] for k in range(4))
    middle = (near + far) / 2
    aside = np.maximum(np.maximum(left - camera_t, camera_t - right), 0.0)
    beyond = near[:, None] >= far[None, :]  # i lies beyond j
    apart = beyond | beyond.T
    other_side = (left[:, None] - camera_t) * (left[None, :] - camera_t) < 0
    lateral = ((left[:, None] >= right[None, :]) | (right[:, None] <= left[None, :])) & ~(
        other_side & (aside[:, None] > 0) & (aside[None, :] > 0)
    )
    farther = np.where(
        lateral & (aside[:, None] != aside[None, :]),
        aside[:, None] > aside[None, :],
        middle[:, None] > middle[None, :],
    )
    # before[i, j]: i has to be painted before j.
    before = np.where(apart, beyond & ~(beyond & beyond.T), farther)
    np.fill_diagonal(before, False)
    waiting_for = before.sum(axis=0)
    order: list[int] = []
    todo = np.ones(len(boxes), bool)
    for _ in range(len(boxes)):
        free = todo & (waiting_for == 0)
        candidates = free if free.any() else todo
        chosen = int(np.where(candidates, middle, -np.inf).argmax())
        order.append(chosen)
        todo[chosen] = False
        waiting_for = waiting_for - before[chosen]
    return order
