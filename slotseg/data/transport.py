"""Batches on their way from worker processes, as one block of memory each.

torch sends every tensor through a shared file of its own, and a process may hold only so many
files (often 1024): batches of 64 scenes with three tensors each from 4 workers are too many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

# Where each tensor may begin: views of any type need an aligned offset.
_ALIGNMENT = 16


@dataclass(frozen=True)
class PackedBatch:
    """A batch whose tensors lie one after the other in ``block``."""

    items: list[dict[str, Any]]
    block: torch.Tensor


@dataclass(frozen=True)
class _Place:
    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype


def pack(batch: list[dict[str, Any]]) -> PackedBatch:
    """Move all tensors of a batch (a list of flat dicts) into one block."""
    tensors: list[tuple[int, torch.Tensor]] = []
    items, end = [], 0
    for item in batch:
        packed = dict(item)
        for key, value in item.items():
            if isinstance(value, torch.Tensor):
                packed[key] = _Place(end, tuple(value.shape), value.dtype)
                tensors.append((end, value))
                end += -(-value.numel() * value.element_size() // _ALIGNMENT) * _ALIGNMENT
        items.append(packed)
    block = torch.empty(end, dtype=torch.uint8)
    for offset, tensor in tensors:
        _view(block, _Place(offset, tuple(tensor.shape), tensor.dtype)).copy_(tensor)
    return PackedBatch(items, block)


def unpack(batch: PackedBatch | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The batch that was packed; its tensors are views of the block. Others pass unchanged."""
    if not isinstance(batch, PackedBatch):
        return batch
    return [
        {
            key: _view(batch.block, value) if isinstance(value, _Place) else value
            for key, value in item.items()
        }
        for item in batch.items
    ]


def _view(block: torch.Tensor, place: _Place) -> torch.Tensor:
    size = torch.Size(place.shape).numel() * place.dtype.itemsize
    return block[place.offset : place.offset + size].view(place.dtype).view(place.shape)
