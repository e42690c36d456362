"""Surface points in batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slotseg.data.synthetic import backdrop
from slotseg.data.synthetic.shapes import Solid


@dataclass
class Points:
    """Surface points to shade.

    Attributes:
        position: float32 [3, N].
        normal: float32 [3, N], unit, outward.
        view: float32 [3, N], unit, towards the viewer.
        owner: uint8 [N], 0 on the backdrop and i on ``solids[i - 1]``.
    """

    position: np.ndarray
    normal: np.ndarray
    view: np.ndarray
    owner: np.ndarray

    def __getitem__(self, index: np.ndarray) -> Points:
        return Points(
            self.position[:, index], self.normal[:, index], self.view[:, index], self.owner[index]
        )


def surface_normals(solids: list[Solid], position: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Outward unit normals [3, N] at points [3, N] of the backdrop (owner 0) and of objects."""
    normal = np.empty_like(position)
    (ground,) = np.nonzero(owner == 0)
    normal[:, ground] = backdrop.normals(position[:, ground])
    for index in np.unique(owner[owner > 0]):
        (mine,) = np.nonzero(owner == index)
        normal[:, mine] = solids[index - 1].normals(position[:, mine])
    return normal
