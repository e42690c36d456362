"""The best one-to-one assignment within each kind, and what becomes of the rest."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from slotseg.errors import ConfigError
from slotseg.evaluation.cluster_assignment import assign_clusters

THING, STUFF = True, False


def assign(table, clusters, classes, extra="majority"):
    return assign_clusters(np.array(table), np.array(clusters), np.array(classes), extra).tolist()


def test_things_stay_things():
    # By pixels alone cluster 0 would be the stuff class 1.
    table = [[5, 90], [40, 60]]
    assert assign(table, [THING, STUFF], [THING, STUFF]) == [0, 1]
    assert assign(table, [STUFF, STUFF], [THING, STUFF]) == [1, 1]
    assert assign(table, [STUFF, STUFF], [THING, STUFF], "void") == [1, -1]


def test_the_whole_counts_not_the_single_best_pair():
    table = [[10, 9], [9, 0]]
    assert assign(table, [STUFF] * 2, [STUFF] * 2) == [1, 0]


def test_clusters_beyond_the_classes_follow_the_majority_or_nothing():
    table = [[50, 1], [3, 20], [30, 8], [1, 2]]
    assert assign(table, [STUFF] * 4, [STUFF] * 2) == [0, 1, 0, 1]
    assert assign(table, [STUFF] * 4, [STUFF] * 2, "void") == [0, 1, -1, -1]


def test_more_classes_than_clusters():
    assert assign([[1, 7, 3]], [THING], [THING] * 3) == [1]


def test_what_never_meets_is_not_paired():
    assert assign([[4, 0], [0, 0]], [STUFF] * 2, [STUFF] * 2) == [0, -1]
    assert assign([[4, 0], [0, 0], [0, 0]], [STUFF] * 3, [STUFF] * 2) == [0, -1, -1]


def test_it_is_the_best_of_all_assignments():
    rng = np.random.default_rng(0)
    for _ in range(20):
        table = rng.integers(1, 100, (4, 4))
        found = assign(table, [STUFF] * 4, [STUFF] * 4)
        best = max(table[range(4), list(order)].sum() for order in permutations(range(4)))
        assert table[range(4), found].sum() == best


def test_unknown_treatments_are_refused():
    with pytest.raises(ConfigError, match="EXTRA_CLUSTERS is 'keep', choose from majority, void"):
        assign([[1]], [STUFF], [STUFF], "keep")
