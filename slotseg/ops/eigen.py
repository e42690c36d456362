"""The leading eigenvectors of large symmetric matrices, in batches and on their device."""

from __future__ import annotations

import torch
from torch import Tensor

# Multiplications between two orthogonalisations. More sharpen the filter, but once a column has
# grown 1e7 times faster than another, float32 no longer tells them apart.
_DEGREE = 4
_MAX_ROUNDS = 5
# Vectors iterated besides the wanted ones: with them, convergence depends on eigenvalues further
# down. Blocks are multiples of 8, which matrix kernels like.
_SPARE, _BLOCK_MULTIPLE = 4, 8
# Below this many rows a block, the dense solver is as fast and exact.
_DENSE_BLOCKS = 6
# The filter's edge, as a share of the largest eigenvalue, is at least this: keeps it finite where
# the matrix has less rank than the block.
_LOWEST_EDGE = 1e-2


@torch.no_grad()
def leading_eigenvectors(
    matrix: Tensor, count: int, *, scale: Tensor | None = None, tolerance: float = 7e-5
) -> tuple[Tensor, Tensor]:
    """Largest eigenvalues of ``diag(scale) matrix diag(scale)``, and their eigenvectors.

    Subspace iteration with a Chebyshev filter (Zhou, Saad, Tiago and Chelikowsky 2006,
    "Self-consistent-field calculations using Chebyshev-filtered subspace iteration"): a block of
    vectors is multiplied by a polynomial of the matrix that is small on all but the leading
    eigenvalues, orthogonalised and rotated to Ritz vectors, until the subspace in front of the
    largest eigengap is known to ``tolerance`` in every matrix of the batch. Nothing but products
    with the matrix touches all its entries. Of spectra without a gap the vectors are approximate
    after the last round: there, single eigenvectors mean little anyway.

    The spectrum's other end should be smaller in magnitude than the wanted eigenvalues, as it is
    for normalised affinities. Gradients do not flow: those of eigenvectors grow without limit as
    eigenvalues meet. The start is the same on every call, so results are reproducible.

    Args:
        matrix: ``[B, N, N]``, symmetric and finite; computed in float32, or float64 if it is.
        count: how many, at most N.
        scale: ``[B, N]``; None: ones. Spares a scaled copy of the matrix.
        tolerance: largest sine of the angle between the subspace in front of the largest gap
            (from the second eigenvalue on) and the exact one, by the bound of Davis and Kahan.

    Returns:
        Eigenvalues ``[B, count]``, falling, and orthonormal eigenvectors ``[B, N, count]`` whose
        signs, and bases among equal eigenvalues, are arbitrary.
    """
    if matrix.dtype != torch.float64:
        matrix = matrix.float()
    if scale is not None:
        scale = scale.to(matrix.dtype)
    size = matrix.shape[1]
    block = -(-(count + _SPARE) // _BLOCK_MULTIPLE) * _BLOCK_MULTIPLE
    with torch.autocast(matrix.device.type, enabled=False):
        if size <= _DENSE_BLOCKS * block:
            return _dense(matrix, count, scale)
        return _filtered_iteration(_Operator(matrix, scale), block, count, tolerance)


class _Operator:
    """Products of ``diag(scale) matrix diag(scale)`` with blocks of vectors."""

    def __init__(self, matrix: Tensor, scale: Tensor | None) -> None:
        self.matrix = matrix
        self.scale = None if scale is None else scale.unsqueeze(-1)

    def __call__(self, vectors: Tensor) -> Tensor:
        """``[B, N, b]`` to the same shape."""
        if self.scale is None:
            return self.matrix @ vectors
        return self.scale * (self.matrix @ (self.scale * vectors))


def _dense(matrix: Tensor, count: int, scale: Tensor | None) -> tuple[Tensor, Tensor]:
    if scale is not None:
        matrix = scale.unsqueeze(2) * matrix * scale.unsqueeze(1)
    values, vectors = torch.linalg.eigh(matrix)
    return values.flip(-1)[:, :count], vectors.flip(-1)[..., :count]


def _filtered_iteration(
    operator: _Operator, block: int, count: int, tolerance: float
) -> tuple[Tensor, Tensor]:
    vectors = _orthonormal(operator(_start(operator.matrix, block)))
    for turn in range(_MAX_ROUNDS + 1):
        values, vectors, products = _ritz(vectors, operator(vectors))
        residuals = (products - vectors * values.unsqueeze(1)).norm(dim=1)
        # Asking stops a GPU's queue, but less than a needless round costs.
        if turn == _MAX_ROUNDS or bool(
            (_angle_bound(values[:, :count], residuals) < tolerance).all()
        ):
            break
        vectors = _orthonormal(_filter(operator, vectors, products, values))
    return values[:, :count], vectors[..., :count]


def _start(matrix: Tensor, block: int) -> Tensor:
    """Random vectors, the same on every device and for every image of a batch."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(matrix.shape[1], block, generator=generator, dtype=matrix.dtype)
    return start.to(matrix.device).expand(len(matrix), -1, -1)


def _orthonormal(vectors: Tensor) -> Tensor:
    return torch.linalg.qr(vectors)[0]


def _ritz(vectors: Tensor, products: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rayleigh-Ritz: eigenvalues within the block, falling; the block and its products rotated."""
    projected = vectors.mT @ products
    values, rotation = torch.linalg.eigh((projected + projected.mT) / 2)
    values, rotation = values.flip(-1), rotation.flip(-1)
    return values, vectors @ rotation, products @ rotation


def _angle_bound(values: Tensor, residuals: Tensor) -> Tensor:
    """Bound ``[B]`` on the sine of the angle of the subspace in front of the largest gap."""
    if values.shape[1] < 3:
        return residuals[:, : values.shape[1]].norm(dim=1)
    # Eigenvalue 0 alone is known to the user of an affinity; its gap says nothing about the rest.
    gap, place = (values[:, 1:-1] - values[:, 2:]).max(dim=1)
    errors = residuals.square().cumsum(dim=1).sqrt().gather(1, place.unsqueeze(1) + 1)
    return errors.squeeze(1) / gap.clamp_min(torch.finfo(values.dtype).tiny)


def _filter(operator: _Operator, vectors: Tensor, products: Tensor, values: Tensor) -> Tensor:
    """Chebyshev polynomial of the matrix, at most 1 between plus and minus the last Ritz value."""
    lowest = _LOWEST_EDGE * values[:, 0].abs().clamp_min(torch.finfo(values.dtype).eps)
    edge = torch.maximum(values[:, -1].abs(), lowest)[:, None, None]
    before, now = vectors, products / edge
    for _ in range(_DEGREE - 1):
        before, now = now, 2 * operator(now) / edge - before
    return now
