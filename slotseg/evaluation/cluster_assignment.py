"""Which class a cluster stands for: the step that lets a model without labels be scored."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from slotseg.errors import ConfigError

EXTRA_CLUSTERS = ("majority", "void")


def assign_clusters(
    table: np.ndarray,
    cluster_is_thing: np.ndarray,
    class_is_thing: np.ndarray,
    extra: str = "majority",
) -> np.ndarray:
    """Hungarian assignment of clusters to classes, things to things and stuff to stuff.

    The pairs that share most pixels in all are chosen, each class once. Where there are more
    clusters than classes of a kind, the rest are either given to the class of their kind with which
    they share most pixels, so that several clusters stand for one class ("majority": what CUPS,
    Hahn et al. 2025, does), or to none ("void": strictly one to one). A pair without one common
    pixel is no pair.

    Args:
        table: ``[K, C]``, pixels of every cluster in every class, over the whole validation set.
        cluster_is_thing: bool ``[K]``.
        class_is_thing: bool ``[C]``.
        extra: one of :data:`EXTRA_CLUSTERS`.

    Returns:
        int64 ``[K]``: the class of every cluster, -1 for none.

    Raises:
        ConfigError: unknown ``extra``.
    """
    if extra not in EXTRA_CLUSTERS:
        raise ConfigError(
            f"UNSUPERVISED.EXTRA_CLUSTERS is {extra!r}, choose from {', '.join(EXTRA_CLUSTERS)}"
        )
    assigned = np.full(len(table), -1, np.int64)
    for kind in (True, False):
        clusters = np.flatnonzero(cluster_is_thing == kind)
        classes = np.flatnonzero(class_is_thing == kind)
        if not len(clusters) or not len(classes):
            continue
        shared = table[np.ix_(clusters, classes)]
        rows, columns = linear_sum_assignment(shared, maximize=True)
        if extra == "majority":
            left = np.setdiff1d(np.arange(len(clusters)), rows)
            rows = np.concatenate([rows, left])
            columns = np.concatenate([columns, shared[left].argmax(1)])
        meet = shared[rows, columns] > 0
        assigned[clusters[rows[meet]]] = classes[columns[meet]]
    return assigned
