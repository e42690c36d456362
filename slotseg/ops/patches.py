"""Images as sequences of square patches, and back."""

from __future__ import annotations

from torch import Tensor


def to_patches(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut images into patches, in the order in which a vision transformer counts them.

    Args:
        images: ``[B, C, h * P, w * Q]``.
        size: (P, Q), height and width of a patch in pixels.

    Returns:
        ``[B, h * w, P * Q * C]``, patches row by row, the pixels of a patch row by row, the
        channels of a pixel together.

    Raises:
        ValueError: the sides are not whole multiples of those of a patch.
    """
    height, width = images.shape[-2:]
    if height % size[0] or width % size[1]:
        raise ValueError(f"{height}x{width} pixels are not whole patches of {size[0]}x{size[1]}")
    grid = images.unflatten(3, (-1, size[1])).unflatten(2, (-1, size[0]))
    return grid.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def from_patches(patches: Tensor, size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """The inverse of :func:`to_patches`.

    Args:
        patches: ``[B, h * w, P * Q * C]``.
        size: (P, Q).
        grid: (h, w), rows and columns of patches.

    Returns:
        ``[B, C, h * P, w * Q]``.
    """
    pixels = patches.unflatten(1, grid).unflatten(3, (*size, -1))
    return pixels.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)
