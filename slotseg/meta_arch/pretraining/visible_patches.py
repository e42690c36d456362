"""Let a vision transformer see only some patches of an image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class VisiblePatches(nn.Module):
    """Stands where timm drops patches at random; drops those that are not chosen.

    timm calls this module after the position embeddings are added, so that every patch keeps its
    place. Its models with rotary positions want to know which patches are left, the others do not.
    The module has no weights: a ViT's state dict is the same with it and without.

    Args:
        vit: one of timm's vision transformers; it is changed in place.
    """

    def __init__(self, vit: nn.Module) -> None:
        super().__init__()
        self._prefix = vit.num_prefix_tokens
        self._tells_indices = hasattr(vit, "rope")
        self._chosen: Tensor | None = None
        vit.patch_drop = self

    @contextmanager
    def only(self, chosen: Tensor) -> Iterator[None]:
        """Inside of this context the ViT sees the patches ``chosen``: ``[B, n]`` int64."""
        self._chosen = chosen
        try:
            yield
        finally:
            self._chosen = None

    def forward(self, tokens: Tensor) -> Tensor | tuple[Tensor, Tensor | None]:
        """``[B, prefix + N, D]`` to ``[B, prefix + n, D]``, and the indices where asked for."""
        if self._chosen is not None:
            tokens = self._select(tokens, self._chosen)
        return (tokens, self._chosen) if self._tells_indices else tokens

    def _select(self, tokens: Tensor, chosen: Tensor) -> Tensor:
        prefix, patches = tokens[:, : self._prefix], tokens[:, self._prefix :]
        index = chosen.unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
        return torch.cat([prefix, patches.gather(1, index)], dim=1)
