"""Panoptic segments whose classes are clusters."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from slotseg.unsupervised.clusters import Clusters
from slotseg.unsupervised.components import connected_components
from slotseg.unsupervised.parts import PartFinder, Parts


class ClusterSegmenter(nn.Module):
    """Parts of an image, each given the nearest cluster, as panoptic segments.

    A stuff cluster is one segment an image. In a thing cluster every connected component is one: of
    a slot where parts are slots, of the cluster's pixels where they are pixels or patches.

    Args:
        model: what the parts come from, kept so that it follows ``eval()`` and ``to()``.
        parts: cuts images into parts.
        clusters: of embeddings of such parts.
        min_area: segments of fewer pixels than this are left out.
    """

    def __init__(
        self, model: nn.Module, parts: PartFinder, clusters: Clusters, min_area: int
    ) -> None:
        super().__init__()
        self.model = model
        self.parts = parts
        self.clusters = clusters
        self.min_area = min_area

    def forward(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """One dict an image with ``panoptic_seg``: int32 ``[height, width]`` ids from 1 on, 0 for
        nothing, and dicts of ``id``, ``category_id`` (the cluster), ``isthing`` and ``area``."""
        return [{"panoptic_seg": self._segment(parts)} for parts in self.parts(batch)]

    def _segment(self, parts: Parts) -> tuple[Tensor, list[dict[str, Any]]]:
        ids = parts.ids.numpy()
        cluster_of_part = self.clusters.of(parts.embeddings).numpy()
        clusters = cluster_map(ids, cluster_of_part)
        is_thing = self.clusters.is_thing.numpy()
        on_thing = (clusters >= 0) & is_thing[clusters]
        instance_labels = ids if self.parts.are_instances else clusters
        regions = connected_components(np.where(on_thing, instance_labels, -1))
        things = int(regions.max(initial=0))
        # Stuff clusters get the numbers behind those of the things.
        merged = np.where((clusters >= 0) & ~on_thing, things + 1 + clusters, regions)
        return number_segments(merged, clusters, is_thing, self.min_area)


def cluster_map(ids: np.ndarray, cluster_of_part: np.ndarray) -> np.ndarray:
    """The cluster of every pixel from its part ``[H, W]``; -1 where that is negative."""
    # One more entry, which index -1 reads.
    return np.append(cluster_of_part, -1)[ids]


def number_segments(
    merged: np.ndarray, clusters: np.ndarray, is_thing: np.ndarray, min_area: int
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Segments large enough, numbered from 1 on.

    Args:
        merged: ``[H, W]``, different for different segments, 0 for none.
        clusters: ``[H, W]``, the cluster of every pixel.
        is_thing: ``[K]``.
        min_area: in pixels.

    Returns:
        int32 ``[H, W]`` and one dict a segment.
    """
    found, first, index, areas = np.unique(
        merged, return_index=True, return_inverse=True, return_counts=True
    )
    kept = (found > 0) & (areas >= min_area)
    numbers = np.where(kept, kept.cumsum(), 0).astype(np.int32)
    categories = clusters.ravel()[first]
    segments = [
        {
            "id": int(number),
            "category_id": int(category),
            "isthing": bool(is_thing[category]),
            "area": int(area),
        }
        for number, category, area in zip(numbers[kept], categories[kept], areas[kept], strict=True)
    ]
    return torch.from_numpy(numbers[index.reshape(merged.shape)]), segments
