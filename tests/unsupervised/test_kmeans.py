"""k-means finds what is there, the same every time."""

from __future__ import annotations

import pytest
import torch

from slotseg.errors import ConfigError
from slotseg.unsupervised import kmeans, nearest_center


def blobs(centers, per_blob=20, spread=0.05):
    return (centers[:, None] + spread * torch.randn(len(centers), per_blob, 2)).flatten(0, 1)


def test_separate_blobs_are_found():
    true = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0], [3.0, 3.0], [9.0, 9.0]])
    found = kmeans(blobs(true), 5, seed=0)
    _, squared = nearest_center(true, found)
    assert squared.max() < 0.01
    assert len(set(nearest_center(true, found)[0].tolist())) == 5


def test_one_cluster_is_the_mean():
    points = torch.randn(50, 3)
    assert torch.allclose(kmeans(points, 1, seed=0)[0], points.mean(0), atol=1e-6)


def test_the_seed_decides_and_the_global_generator_does_not():
    points = torch.randn(200, 4)
    first = kmeans(points, 7, seed=3)
    torch.manual_seed(99)
    assert torch.equal(kmeans(points, 7, seed=3), first)
    assert not torch.equal(kmeans(points, 7, seed=4, restarts=1), first)


def test_as_many_clusters_as_different_points_leave_none_empty():
    points = torch.tensor([[0.0], [1.0], [5.0]]).repeat(10, 1)
    found = kmeans(points, 3, seed=0)
    assert sorted(found.flatten().tolist()) == [0.0, 1.0, 5.0]


def test_more_restarts_are_never_worse():
    points = torch.randn(300, 2)
    errors = [
        float(nearest_center(points, kmeans(points, 12, seed=1, restarts=n))[1].sum())
        for n in (1, 4)
    ]
    assert errors[1] <= errors[0]


def test_too_few_points_are_refused():
    with pytest.raises(ConfigError, match="CLUSTERS is 4, but there are only 2 different parts"):
        kmeans(torch.tensor([[0.0], [1.0], [1.0]]), 4, seed=0)


def test_distances_are_squared_and_ties_go_to_the_first():
    points, centers = torch.tensor([[0.0, 0.0], [4.0, 0.0]]), torch.tensor([[-1.0, 0], [1.0, 0]])
    index, squared = nearest_center(points, centers)
    assert index.tolist() == [0, 1]
    assert squared.tolist() == [1.0, 9.0]
    assert nearest_center(points[:0], centers)[0].shape == (0,)
