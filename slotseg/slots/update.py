"""How a slot takes in what it has just gathered."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class GRUUpdate(nn.Module):
    """A gated recurrent unit whose hidden state is the slot (Locatello et al. 2020, algorithm 1).

    Every update has the same two methods, so that one with a memory of its own can replace it:
    ``start`` makes the memory of a new image, ``forward`` hands it on from iteration to iteration.

    Args:
        dim: length D of a slot.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gru = nn.GRUCell(dim, dim)

    def start(self, slots: Tensor) -> Any:
        """The memory before the first iteration, for initial ``slots`` ``[B, K, D]``: none."""
        return None

    def forward(self, gathered: Tensor, slots: Tensor, memory: Any) -> tuple[Tensor, Any]:
        """New slots ``[B, K, D]`` and memory, from ``gathered`` and ``slots`` of that shape."""
        flat = self.gru(gathered.flatten(0, 1), slots.flatten(0, 1).to(gathered.dtype))
        return flat.unflatten(0, slots.shape[:2]), memory
