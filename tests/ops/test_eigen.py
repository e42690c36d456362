"""The eigen-solver against LAPACK in float64."""

import pytest
import torch

from slotseg.ops.eigen import leading_eigenvectors

# Spectra of 600 values whose bulk fills [-0.1, 0.15]: in front of it six leading eigenvalues.
LEADING = [1.0, 0.7, 0.62, 0.6, 0.55, 0.5]


def matrix_of(values: list[float], size: int = 600, seed: int = 0) -> tuple:
    """A symmetric float64 matrix ``[size, size]`` with these leading eigenvalues, and its basis."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
    bulk = torch.rand(size - len(values), generator=generator, dtype=torch.float64) * 0.25 - 0.1
    spectrum = torch.cat([torch.tensor(values, dtype=torch.float64), bulk])
    return (basis * spectrum) @ basis.T, basis[:, : len(values)]


def subspace_error(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Sine of the largest angle between two subspaces with orthonormal bases ``[N, k]``."""
    found = torch.linalg.qr(found.double())[0]
    return float(torch.linalg.matrix_norm(found - exact @ (exact.T @ found), ord=2))


def test_subspaces_in_front_of_a_gap_are_found_for_every_matrix_of_a_batch():
    made = [matrix_of(LEADING, seed=0), matrix_of([1.0, 0.4, 0.39, 0.38], seed=1)]
    batch = torch.stack([matrix for matrix, _ in made]).float()
    values, vectors = leading_eigenvectors(batch, 10)
    assert values.shape == (2, 10)
    assert values.dtype == vectors.dtype == torch.float32
    for index, (_, exact) in enumerate(made):
        count = exact.shape[1]
        assert subspace_error(vectors[index, :, :count], exact) < 1e-4
    torch.testing.assert_close(values[0, :6], torch.tensor(LEADING), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(
        vectors.mT @ vectors, torch.eye(10).expand(2, -1, -1), atol=1e-5, rtol=0.0
    )


def test_double_precision_goes_beyond_single():
    matrix, exact = matrix_of(LEADING)
    _, vectors = leading_eigenvectors(matrix[None], 8, tolerance=1e-9)
    assert vectors.dtype == torch.float64
    assert subspace_error(vectors[0, :, :6], exact) < 1e-9


@pytest.mark.parametrize("size", [12, 600])
def test_scaling_on_both_sides_is_that_of_the_scaled_matrix(size):
    matrix = torch.rand(2, size, size)
    matrix = matrix + matrix.mT
    scale = torch.rand(2, size) + 0.5
    scaled = scale[:, :, None] * matrix * scale[:, None, :]
    values, vectors = leading_eigenvectors(matrix, 2, scale=scale)
    exact_values, exact = torch.linalg.eigh(scaled.double())
    torch.testing.assert_close(values[:, 0].double(), exact_values[:, -1], rtol=1e-5, atol=0.0)
    assert subspace_error(vectors[0, :, :1], exact[0, :, -1:]) < 1e-4


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_less_rank_than_wanted_gives_zeros_and_orthonormal_vectors(rank):
    basis = torch.linalg.qr(torch.randn(500, 3))[0][:, :rank]
    values, vectors = leading_eigenvectors((basis @ basis.T)[None], 6)
    expected = torch.tensor([1.0] * rank + [0.0] * (6 - rank))
    torch.testing.assert_close(values[0], expected, atol=1e-5, rtol=0.0)
    torch.testing.assert_close(vectors[0].mT @ vectors[0], torch.eye(6), atol=1e-5, rtol=0.0)


def test_the_same_on_every_call_and_in_single_precision_under_autocast():
    matrix = matrix_of(LEADING)[0].float()[None]
    state = torch.get_rng_state()
    first = leading_eigenvectors(matrix, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        second = leading_eigenvectors(matrix, 7)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
