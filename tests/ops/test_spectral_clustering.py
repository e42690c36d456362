"""Parts of graphs with planted blocks."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from slotseg.ops.spectral_clustering import (
    cluster_rows,
    eigengap_counts,
    eigenvalue_counts,
    normalized_spectrum,
)


def block_model(sizes: list[int], inside: float, between: float, seed: int = 0) -> tuple:
    """Stochastic block model: adjacency ``[N, N]`` with a loop at every node, and its blocks."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    chance = torch.where(blocks[:, None] == blocks[None, :], inside, between)
    drawn = (torch.rand(chance.shape, generator=generator) < chance).float().triu(1)
    return drawn + drawn.T + torch.eye(len(blocks)), blocks


def accuracy(found: torch.Tensor, true: torch.Tensor) -> float:
    """Share of nodes in the right block, blocks matched as well as possible."""
    size = int(max(found.max(), true.max())) + 1
    table = torch.zeros(size, size)
    table.index_put_((found, true), torch.ones(len(true)), accumulate=True)
    rows, columns = linear_sum_assignment(table.numpy(), maximize=True)
    return float(table[rows, columns].sum() / len(true))


def parts(affinity: torch.Tensor, most: int) -> tuple[torch.Tensor, int]:
    values, vectors = normalized_spectrum(affinity[None], most + 1)
    counts = eigengap_counts(values, 2, most, 0.01)
    return cluster_rows(vectors[..., :most], counts)[0].argmax(dim=0), int(counts)


@pytest.mark.parametrize("sizes", [[100, 100], [60, 80, 100, 120], [300, 60, 50, 40, 40, 30]])
def test_dense_planted_blocks_are_counted_and_found(sizes):
    """Far above the detection threshold; exact recovery is possible there (Abbe 2018)."""
    affinity, blocks = block_model(sizes, inside=0.5, between=0.02)
    found, count = parts(affinity, most=9)
    assert count == len(sizes)
    assert accuracy(found, blocks) > 0.99


def test_noisier_planted_blocks_keep_a_known_accuracy():
    affinity, blocks = block_model([100, 100, 100], inside=0.2, between=0.05)
    found, count = parts(affinity, most=6)
    assert count == 3
    assert accuracy(found, blocks) > 0.97


def test_unconnected_blocks_are_found_exactly():
    affinity = torch.block_diag(torch.ones(20, 20), torch.ones(5, 5), torch.ones(40, 40))
    values, vectors = normalized_spectrum(affinity[None], 5)
    torch.testing.assert_close(values[0], torch.tensor([1.0, 1, 1, 0, 0]), atol=1e-5, rtol=0.0)
    similarity = cluster_rows(vectors[..., :4], torch.tensor([3]))[0]
    blocks = torch.repeat_interleave(torch.arange(3), torch.tensor([20, 5, 40]))
    assert accuracy(similarity.argmax(dim=0), blocks) == 1.0
    assert (similarity[3] == -torch.inf).all()
    # Rows of different parts are orthogonal.
    assert similarity[:3].sort(dim=0).values[1].abs().max() < 1e-4


@given(st.integers(0, 2**31 - 1))
def test_signs_and_rotations_of_eigenvectors_do_not_matter(seed):
    affinity, _ = block_model([30, 40, 50], inside=0.5, between=0.05)
    _, vectors = normalized_spectrum(affinity[None], 3)
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator))[0]
    count = torch.tensor([3])
    torch.testing.assert_close(
        cluster_rows(vectors @ rotation, count), cluster_rows(vectors, count), atol=1e-4, rtol=0.0
    )


@given(st.integers(0, 2**31 - 1))
def test_the_order_of_the_nodes_does_not_matter(seed):
    affinity, _ = block_model([30, 40, 50], inside=0.5, between=0.05)
    order = torch.randperm(120, generator=torch.Generator().manual_seed(seed))
    found, count = parts(affinity, most=5)
    moved, moved_count = parts(affinity[order][:, order], most=5)
    assert count == moved_count == 3
    assert torch.equal(moved, found[order])


def test_graphs_of_a_batch_do_not_see_each_other():
    graphs = [block_model(sizes, 0.5, 0.02, seed=3)[0] for sizes in ([60, 60], [40, 40, 40])]
    values, vectors = normalized_spectrum(torch.stack(graphs), 6)
    counts = eigengap_counts(values, 2, 5, 0.01)
    assert counts.tolist() == [2, 3]
    together = cluster_rows(vectors[..., :5], counts).argmax(dim=1)
    for index, graph in enumerate(graphs):
        assert accuracy(together[index], parts(graph, most=5)[0]) == 1.0


def test_graphs_without_parts_have_none():
    complete = torch.ones(1, 50, 50)
    nothing = torch.zeros(1, 50, 50)
    lonely = torch.eye(50)[None]
    values, vectors = normalized_spectrum(torch.cat([complete, nothing, lonely]), 5)
    counts = eigengap_counts(values, 2, 4, 0.01)
    assert counts.tolist() == [0, 0, 0]
    assert (cluster_rows(vectors[..., :4], counts) == -torch.inf).all()


def test_eigengaps_by_hand():
    values = torch.tensor([[1.0, 0.9, 0.85, 0.3, 0.29], [1.0, 0.2, 0.19, 0.18, 0.175]])
    assert eigengap_counts(values, 2, 4, 0.02).tolist() == [3, 0]
    assert eigengap_counts(values, 2, 9, 0.001).tolist() == [3, 2]
    assert eigengap_counts(values, 2, 2, 0.02).tolist() == [2, 0]
    assert eigengap_counts(values, 1, 4, 0.02).tolist() == [3, 1]
    assert eigengap_counts(values[:, :2], 2, 4, 0.0).tolist() == [0, 0]


def test_eigenvalues_by_hand():
    values = torch.tensor([[1.0, 0.9, 0.3, 0.2], [1.0, 0.1, 0.05, 0.0]])
    assert eigenvalue_counts(values, 2, 4, 0.25).tolist() == [3, 0]
    assert eigenvalue_counts(values, 1, 2, 0.25).tolist() == [2, 1]
