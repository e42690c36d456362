"""Every so many-th pixel of a map."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Lattice:
    """Every ``step``-th pixel of a map, each way.

    Attributes:
        size: (height, width) of the map.
        step: in pixels, at least 1.
        top, left: the first row and column, below ``step``.
    """

    size: tuple[int, int]
    step: int
    top: int
    left: int

    @classmethod
    def random(cls, size: tuple[int, int], step: int) -> Lattice:
        """With a start from PyTorch's generator: over many draws every pixel has its turn.

        A map of fewer than ``step`` pixels gives at least one each way.
        """
        top, left = (int(torch.randint(min(step, side), ())) for side in size)
        return cls(size, step, top, left)

    def take(self, maps: Tensor) -> Tensor:
        """The lattice's pixels of ``[..., height, width]``."""
        return maps[..., self.top :: self.step, self.left :: self.step]
