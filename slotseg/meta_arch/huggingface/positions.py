"""Position embeddings of a vision transformer for any grid of patches."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class GridPositions(nn.Embedding):
    """A learnt vector a patch of one grid, resampled to the grid that is asked for.

    Takes the place of the network's own table and keeps its name and shape in saved weights.

    Args:
        weight: ``[rows * columns, D]``, the table to take over.
        trained_grid: (rows, columns) of patches that the table is made for.

    Attributes:
        grid: (rows, columns) that the next call answers for.
    """

    def __init__(self, weight: nn.Parameter, trained_grid: tuple[int, int]) -> None:
        super().__init__(*weight.shape, _weight=weight)
        self.weight = weight
        self.trained_grid = self.grid = trained_grid

    def forward(self, numbers: Tensor) -> Tensor:
        """``[1, N, D]`` for N patches of :attr:`grid` in rows; ``numbers`` is not looked at when
        that is another grid than the table's."""
        if self.grid == self.trained_grid:
            return super().forward(numbers)
        table = self.weight.view(1, *self.trained_grid, -1).permute(0, 3, 1, 2)
        table = F.interpolate(table, self.grid, mode="bicubic", align_corners=False)
        return table.flatten(2).transpose(1, 2)
