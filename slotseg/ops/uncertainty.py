"""How sure a prediction is, as a number between 0 and 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def normalized_entropy(probabilities: Tensor, dim: int) -> Tensor:
    """Entropy over ``dim`` as a share of the largest possible one: 0 certain, 1 uniform.

    Args:
        probabilities: at least 0, sum to 1 over ``dim``.

    Returns:
        The same shape without ``dim``; 0 everywhere where there is one class only.
    """
    classes = probabilities.shape[dim]
    if classes < 2:
        return torch.zeros_like(probabilities.sum(dim))
    return torch.special.entr(probabilities).sum(dim) / math.log(classes)


def prediction_variance(predictions: Tensor, dim: int) -> Tensor:
    """How far several predictions of one thing differ: their variance, summed over the classes.

    0 where all agree; with T predictions at most ``1 - 1/T``, where each is certain of another
    class.

    Args:
        predictions: ``[T, ...]`` probabilities that sum to 1 over ``dim``; T predictions.
        dim: of the classes, counted with T.

    Returns:
        The shape without T and ``dim``.
    """
    # Of the population, not of a sample: a single prediction has none, rather than NaN.
    return predictions.var(dim=0, correction=0).sum(dim if dim < 0 else dim - 1)
