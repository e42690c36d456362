"""Connected regions of equal labels."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components as graph_components


def connected_components(labels: np.ndarray) -> np.ndarray:
    """Number the regions in which neighbouring pixels have one label.

    Neighbours share a side (4-connectivity). All labels are treated at once, as components of the
    graph that joins equal neighbours, so the time does not grow with the number of labels.

    Args:
        labels: integers ``[H, W]``; negative ones belong to no region.

    Returns:
        int64 ``[H, W]``: regions from 1 on in the order of their first pixel, 0 for none.
    """
    height, width = labels.shape
    pixels = np.arange(height * width).reshape(height, width)
    across = labels[:, 1:] == labels[:, :-1]
    down = labels[1:] == labels[:-1]
    start = np.concatenate([pixels[:, :-1][across], pixels[:-1][down]])
    end = np.concatenate([pixels[:, 1:][across], pixels[1:][down]])
    graph = coo_array((np.ones(len(start), np.int8), (start, end)), (pixels.size, pixels.size))
    _, found = graph_components(graph.tocsr(), directed=False)
    regions = np.zeros(labels.shape, np.int64)
    inside = labels >= 0
    if not inside.any():
        return regions
    # The order of scipy's numbers is not documented.
    _, first, index = np.unique(
        found.reshape(labels.shape)[inside], return_index=True, return_inverse=True
    )
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(1, len(first) + 1)
    regions[inside] = rank[index]
    return regions
