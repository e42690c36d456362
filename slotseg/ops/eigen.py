"""The leading eigenvectors of large symmetric matrices, in batches and on their device."""

from __future__ import annotations

import torch
from torch import Tensor

# Multiplications between two orthogonalisations: in the first round, and at least and at most in
# the others. More sharpen the filter, but once a column has grown 1e7 times faster than another,
# float32 no longer tells them apart.
_FIRST_DEGREE, _DEGREES = 4, (2, 8)
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
        bound, growth = _convergence(values, residuals, count)
        # Asking stops a GPU's queue, but less than a needless round costs.
        if turn == _MAX_ROUNDS or bool((bound < tolerance).all()):
            break
        degree = _degree_to_go(bound / tolerance, growth) if turn else _FIRST_DEGREE
        vectors = _orthonormal(_filter(operator, vectors, products, values, degree))
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


def _convergence(values: Tensor, residuals: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """How far the subspace in front of the largest gap is, and how fast it converges, each ``[B]``.

    The first is a bound on the sine of its angle, the second how much faster its slowest vector
    grows in one multiplication than what the filter damps.
    """
    # The first vector of a normalised affinity is known beforehand, so a gap right behind it is
    # not what is asked for.
    first = 1 if count > 2 else 0
    behind = values[:, first + 1 : max(count, first + 2)]
    gap, place = (values[:, first : first + behind.shape[1]] - behind).max(dim=1)
    last = (place + first).unsqueeze(1)
    errors = residuals.square().cumsum(dim=1).sqrt().gather(1, last).squeeze(1)
    bound = errors / gap.clamp_min(torch.finfo(values.dtype).tiny)
    ratio = values.gather(1, last).squeeze(1) / _edge(values)
    return bound, torch.acosh(ratio.clamp_min(1.05)).exp()


def _degree_to_go(excess: Tensor, growth: Tensor) -> int:
    """Multiplications after which every bound of a batch should have shrunk by its ``excess``."""
    # A Chebyshev polynomial reaches half the power of its growth; a half more for safety.
    needed = (3.0 * excess.clamp_min(1.0)).log() / growth.log()
    return int(needed.max().ceil().clamp(*_DEGREES))


def _edge(values: Tensor) -> Tensor:
    """What the filter damps lies between plus and minus this, ``[B]``: the last Ritz value."""
    largest = values[:, 0].abs().clamp_min(torch.finfo(values.dtype).eps)
    return torch.maximum(values[:, -1].abs(), _LOWEST_EDGE * largest)


def _filter(
    operator: _Operator, vectors: Tensor, products: Tensor, values: Tensor, degree: int
) -> Tensor:
    """The Chebyshev polynomial of that degree of the matrix, at most 1 within the edges."""
    edge = _edge(values)[:, None, None]
    before, now = vectors, products / edge
    for _ in range(degree - 1):
        before, now = now, 2 * operator(now) / edge - before
    return now
