"""The order of samples and their random numbers are pure functions of the seed."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slotseg.data.sampling import EvaluationOrder, TrainingOrder, sample_seed

sizes = st.integers(1, 40)
batches = st.integers(1, 12)
seeds = st.integers(0, 2**31)


def take(order: TrainingOrder, number: int) -> list[tuple[int, int]]:
    return list(itertools.chain.from_iterable(itertools.islice(order, number)))


@given(sizes, batches, seeds)
def test_every_epoch_is_a_permutation(size: int, batch: int, seed: int) -> None:
    samples = take(TrainingOrder(size, batch, seed), -(-3 * size // batch))
    assert [number for number, _ in samples] == list(range(len(samples)))
    for epoch in range(3):
        images = [image for _, image in samples[epoch * size : (epoch + 1) * size]]
        assert sorted(images) == list(range(size))


@given(sizes, batches, seeds, st.integers(0, 50))
def test_resuming_goes_on_as_if_nothing_had_happened(
    size: int, batch: int, seed: int, start: int
) -> None:
    whole = take(TrainingOrder(size, batch, seed), start + 5)
    assert take(TrainingOrder(size, batch, seed, start_iter=start), 5) == whole[start * batch :]


@given(sizes, st.integers(1, 4), st.integers(1, 4), seeds, st.integers(0, 9))
def test_ranks_together_see_what_one_process_sees(
    size: int, share: int, world_size: int, seed: int, start: int
) -> None:
    batch = share * world_size
    single = TrainingOrder(size, batch, seed, start)
    ranks = [
        TrainingOrder(size, batch, seed, start, rank, world_size) for rank in range(world_size)
    ]
    for iteration in range(start, start + 6):
        together = [pair for order in ranks for pair in order.batch(iteration)]
        assert together == single.batch(iteration)


def test_epochs_and_seeds_differ() -> None:
    def epoch(seed: int, number: int) -> tuple[int, ...]:
        order = TrainingOrder(100, 100, seed)
        return tuple(image for _, image in order.batch(number))

    orders = {epoch(seed, number) for seed in range(3) for number in range(3)}
    assert len(orders) == 9


def test_order_ignores_and_leaves_global_generators() -> None:
    np.random.seed(1)
    torch.manual_seed(1)
    before = (np.random.get_state()[1].copy(), torch.get_rng_state())
    first = take(TrainingOrder(50, 7, 3), 20)
    assert np.array_equal(before[0], np.random.get_state()[1])
    assert torch.equal(before[1], torch.get_rng_state())
    np.random.seed(2)
    assert take(TrainingOrder(50, 7, 3), 20) == first


@pytest.mark.parametrize(("size", "batch", "world"), [(0, 4, 1), (5, 0, 1), (5, 4, 3)])
def test_training_order_rejects(size: int, batch: int, world: int) -> None:
    with pytest.raises(ValueError, match="cannot share"):
        TrainingOrder(size, batch, 0, world_size=world)


@given(st.integers(0, 60), batches, st.integers(1, 7))
def test_evaluation_sees_everything_once(size: int, batch: int, world_size: int) -> None:
    orders = [EvaluationOrder(size, batch, rank, world_size) for rank in range(world_size)]
    images = []
    for order in orders:
        part = list(order)
        assert len(part) == len(order)
        assert all(len(entry) == batch for entry in part[:-1])
        assert all(1 <= len(entry) <= batch for entry in part)
        images += [image for entry in part for _, image in entry]
    assert images == list(range(size))
    parts = [order.end - order.begin for order in orders]
    assert max(parts) - min(parts) <= 1


def draw() -> tuple[float, float]:
    return np.random.uniform(), random.random()


@given(seeds, st.integers(0, 2**40))
def test_sample_seed_is_a_function_of_seed_and_number(seed: int, number: int) -> None:
    np.random.seed(5)
    random.seed(5)
    torch.manual_seed(5)
    torch_state = torch.get_rng_state()
    expected_after = draw()
    np.random.seed(5)
    random.seed(5)
    with sample_seed(seed, number):
        first = draw()
    assert draw() == expected_after
    with sample_seed(seed, number):
        assert draw() == first
    with sample_seed(seed, number + 1):
        assert draw() != first
    assert torch.equal(torch_state, torch.get_rng_state())


def test_sample_seed_restores_after_an_error() -> None:
    np.random.seed(5)
    random.seed(5)
    expected = draw()
    np.random.seed(5)
    random.seed(5)
    with pytest.raises(KeyError), sample_seed(0, 0):
        draw()
        raise KeyError
    assert draw() == expected


def test_samples_are_spread_evenly() -> None:
    """First draws of consecutive samples: uniform, and not correlated."""
    draws = []
    for number in range(2000):
        with sample_seed(0, number):
            draws.append(np.random.uniform())
    counts = np.histogram(draws, bins=10, range=(0, 1))[0]
    assert counts.min() > 150 and counts.max() < 250
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.08
