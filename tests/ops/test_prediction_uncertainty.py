"""Entropy and variance as numbers between 0 and 1."""

import math

import torch

from slotseg.ops.uncertainty import normalized_entropy, prediction_variance


def test_entropy_by_hand():
    sure, even, skewed = [1.0, 0.0, 0.0], [1 / 3] * 3, [1 / 2, 1 / 4, 1 / 4]
    entropy = normalized_entropy(torch.tensor([sure, even, skewed]), dim=1)
    expected = torch.tensor([0.0, 1.0, 1.5 * math.log(2) / math.log(3)])
    torch.testing.assert_close(entropy, expected)
    assert normalized_entropy(torch.ones(2, 1), dim=1).tolist() == [0.0, 0.0]


def test_variance_by_hand():
    # Two predictions certain of different classes: each class is 0 and 1, variance 1/4 twice.
    opposite = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    torch.testing.assert_close(prediction_variance(opposite, dim=2), torch.tensor([0.5]))
    torch.testing.assert_close(prediction_variance(opposite, dim=-1), torch.tensor([0.5]))
    assert prediction_variance(opposite[:1], dim=2).tolist() == [0.0]


def test_variance_reaches_its_limit_only_where_all_are_certain_of_different_classes():
    count = 4
    all_different = torch.eye(count).unsqueeze(1)
    limit = torch.tensor([1 - 1 / count])
    torch.testing.assert_close(prediction_variance(all_different, dim=2), limit)
    some = torch.randn(count, 7, 3, generator=torch.Generator().manual_seed(0)).softmax(dim=2)
    assert (prediction_variance(some, dim=2) < limit).all()


def test_dimensions_in_the_middle():
    maps = torch.randn(3, 2, 5, 4, 4, generator=torch.Generator().manual_seed(1)).softmax(dim=2)
    assert normalized_entropy(maps[0], dim=1).shape == (2, 4, 4)
    variance = prediction_variance(maps, dim=2)
    expected = (maps - maps.mean(0)).square().mean(0).sum(1)
    torch.testing.assert_close(variance, expected)
