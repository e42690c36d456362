"""Painting hidden patches from the tokens of the visible ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slotseg.errors import ConfigError
from slotseg.slots.position import FourierPosition

# Channels of a head of the attention.
_HEAD_WIDTH = 32
_KERNEL = 5


class PatchDecoder(nn.Module):
    """Visible tokens to all patches: mask tokens in the places of the others, and a few narrow
    blocks between them.

    Attention (He et al. 2022) has to learn first which patches are neighbours, for thousands of
    steps in which the encoder learns next to nothing. Convolutions know it from the start.

    Args:
        in_channels: width of the visible tokens.
        kind: of the blocks, "attention" or "convolution".
        dim: own width; for attention a multiple of 32.
        depth: number of blocks.
        out_channels: values of a patch.

    Raises:
        ConfigError: an unknown kind, or a width or depth that cannot work.
    """

    def __init__(
        self, in_channels: int, kind: str, dim: int, depth: int, out_channels: int
    ) -> None:
        super().__init__()
        if kind not in _BLOCKS:
            raise ConfigError(
                f"MODEL.MAE.DECODER: {kind!r} is unknown; choose {' or '.join(_BLOCKS)}"
            )
        if dim < _HEAD_WIDTH or dim % _HEAD_WIDTH or depth < 1:
            raise ConfigError(
                f"MODEL.MAE: DECODER_DIM {dim} and DECODER_DEPTH {depth}, but the width must be a "
                f"multiple of {_HEAD_WIDTH} and the depth at least 1"
            )
        self.reduce = nn.Linear(in_channels, dim)
        self.mask_token = nn.Parameter(torch.empty(dim))
        nn.init.normal_(self.mask_token, std=0.02)
        self.position = FourierPosition(dim)
        self.blocks = nn.Sequential(*(_BLOCKS[kind](dim) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.paint = nn.Linear(dim, out_channels)

    def forward(self, tokens: Tensor, visible: Tensor, grid: tuple[int, int]) -> Tensor:
        """Paint all patches.

        Args:
            tokens: ``[B, n, D]``.
            visible: ``[B, n]`` int64, which patches they are.
            grid: (h, w), rows and columns of patches.

        Returns:
            ``[B, h * w, out_channels]``.
        """
        tokens = self.reduce(tokens)
        dim = tokens.shape[-1]
        index = visible.unsqueeze(-1).expand(-1, -1, dim)
        every = self.mask_token.to(tokens.dtype).expand(len(tokens), grid[0] * grid[1], dim)
        every = every.scatter(1, index, tokens).transpose(1, 2).unflatten(2, grid)
        mixed = self.blocks(self.position(every)).flatten(2).transpose(1, 2)
        return self.paint(self.norm(mixed))


class _AttentionBlock(nn.Module):
    """A transformer's block between all patches: ``[B, C, h, w]`` to the same shape."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        from timm.models.vision_transformer import Block

        self.block = Block(dim, dim // _HEAD_WIDTH, qkv_bias=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.block(x.flatten(2).transpose(1, 2))
        return tokens.transpose(1, 2).unflatten(2, tuple(x.shape[-2:]))


class _ConvolutionBlock(nn.Module):
    """A ConvNeXt block (Liu et al. 2022), 5 x 5 patches: ``[B, C, h, w]`` to the same shape."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gather = nn.Conv2d(dim, dim, _KERNEL, padding=_KERNEL // 2, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, 2 * dim)
        self.narrow = nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        pixels = self.norm(self.gather(x).permute(0, 2, 3, 1))
        return x + self.narrow(F.gelu(self.widen(pixels))).permute(0, 3, 1, 2)


_BLOCKS = {"attention": _AttentionBlock, "convolution": _ConvolutionBlock}
