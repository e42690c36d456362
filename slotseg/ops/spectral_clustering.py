"""Normalised cuts of an affinity graph: its spectrum, how many parts it has, and the parts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from slotseg.ops.eigen import leading_eigenvectors

# Degrees below this belong to patches that are similar to nothing, not even themselves.
_LOWEST_DEGREE = 1e-12


@torch.no_grad()
def normalized_spectrum(affinity: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The smooth end of the spectrum of the normalised Laplacian ``I - D^-1/2 W D^-1/2``.

    Args:
        affinity: ``W``, ``[B, N, N]``, symmetric and not negative.
        count: how many eigenvectors, at most N.

    Returns:
        Eigenvalues of ``D^-1/2 W D^-1/2``, ``[B, count]`` falling from 1 (those of the Laplacian
        are 1 minus these), and orthonormal eigenvectors ``[B, N, count]``, of which the first is
        ``D^1/2`` times the constant one.
    """
    scale = affinity.sum(dim=-1).clamp_min(_LOWEST_DEGREE).rsqrt()
    return leading_eigenvectors(affinity, count, scale=scale)


def eigengap_counts(values: Tensor, lowest: int, highest: int, min_gap: float) -> Tensor:
    """In how many parts a graph falls: the number of eigenvalues in front of the largest gap.

    Args:
        values: ``[B, count]``, falling, as :func:`normalized_spectrum` gives.
        lowest, highest: of the numbers to choose from; those without an eigenvalue behind are no
            choice.
        min_gap: difference of two eigenvalues from which it is a gap.

    Returns:
        ``[B]`` int64; 0 where no gap is large enough: the graph does not say.
    """
    highest = min(highest, values.shape[1] - 1)
    if highest < lowest:
        return torch.zeros(len(values), dtype=torch.int64, device=values.device)
    gaps = values[:, lowest - 1 : highest] - values[:, lowest : highest + 1]
    gap, place = gaps.max(dim=1)
    return torch.where(gap >= min_gap, place + lowest, 0)


def eigenvalue_counts(values: Tensor, lowest: int, highest: int, min_value: float) -> Tensor:
    """In how many parts a graph falls by cuts of a limited cost: the eigenvalues from ``min_value``
    on. A graph has k nearly unconnected parts where its k-th eigenvalue is nearly 1 (Lee, Oveis
    Gharan and Trevisan 2014, "Multiway spectral partitioning and higher-order Cheeger
    inequalities").

    Args:
        values: ``[B, count]``, falling, as :func:`normalized_spectrum` gives.
        lowest: fewer than this are no parts.
        highest: number of eigenvalues to look at.
        min_value: in (0, 1].

    Returns:
        ``[B]`` int64; 0 where there are fewer than ``lowest``.
    """
    counts = (values[:, :highest] >= min_value).sum(dim=1)
    return torch.where(counts >= lowest, counts, 0)


@torch.no_grad()
def cluster_rows(vectors: Tensor, counts: Tensor, *, rounds: int = 10) -> Tensor:
    """Parts of a graph from the rows of its leading eigenvectors (Ng, Jordan and Weiss 2001).

    The rows, scaled to length 1, are clustered by k-means on the sphere. Its start needs no
    randomness: rows are chosen one after the other, each the farthest from the span of those
    before, as QR with column pivoting does (Damle, Minden and Ying 2018, "Simple, direct, and
    efficient multi-way spectral clustering"). Only inner products of rows count, so that neither
    signs of eigenvectors nor rotations among the used ones matter, and the order of the patches
    does not either.

    Args:
        vectors: ``[B, N, M]``, eigenvectors by falling eigenvalue.
        counts: ``[B]`` int64, the number k of parts of each graph, at most M; its first k
            eigenvectors are used.
        rounds: of k-means.

    Returns:
        ``[B, M, N]`` float32: cosine similarity of every row to the centre of every part, -inf for
        parts from k on.
    """
    # One question to the device saves the work for parts that no graph has.
    most = max(int(counts.max()), 1)
    valid = torch.arange(most, device=vectors.device) < counts.unsqueeze(1)
    rows = F.normalize(vectors[..., :most].float() * valid.unsqueeze(1), dim=-1)
    centers = _pivot_rows(rows, most)
    # Added to the similarities of a row, of which all are finite.
    closed = torch.zeros_like(valid, dtype=rows.dtype).masked_fill_(~valid, -torch.inf)
    closed = closed.unsqueeze(1)
    for _ in range(rounds):
        similarity = torch.baddbmm(closed, rows, centers.mT)
        members = torch.zeros_like(similarity)
        members.scatter_(2, similarity.argmax(dim=2, keepdim=True), 1.0)
        # An empty part keeps its centre.
        empty = members.amax(dim=1).unsqueeze(2) == 0
        centers = torch.where(empty, centers, F.normalize(members.mT @ rows, dim=-1))
    similarity = torch.baddbmm(closed, rows, centers.mT).mT
    return F.pad(similarity, (0, 0, 0, vectors.shape[2] - most), value=-torch.inf)


def _pivot_rows(rows: Tensor, count: int) -> Tensor:
    """``count`` rows ``[B, count, M]``, each with the largest part outside the span of the others.

    The first is the row nearest to the mean of all: rows have equal lengths, so that none stands
    out by itself.
    """
    score = (rows @ rows.mean(dim=1).unsqueeze(-1)).squeeze(-1)
    left, chosen = rows, []
    for _ in range(count):
        place = score.argmax(dim=1)[:, None, None].expand(-1, -1, rows.shape[-1])
        chosen.append(rows.gather(1, place))
        direction = F.normalize(left.gather(1, place), dim=-1)
        left = left - (left @ direction.mT) * direction
        score = left.square().sum(dim=-1)
    return torch.cat(chosen, dim=1)
