"""Which clusters are things and which are stuff, told from shapes alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slotseg.unsupervised.components import connected_components


@dataclass
class ClusterShapes:
    """Sums over images of what the regions of every cluster look like; ``+=`` adds images.

    A region is a connected component of the pixels of one cluster. Areas are shares of their image,
    so that images of several sizes can be added.

    Attributes:
        area: float64 ``[K]``, sum over images of the cluster's share of the image.
        squared_area: float64 ``[K]``, sum over regions of the squared share.
        border_area: float64 ``[K]``, sum of the shares of regions that touch a border of the image.
        images_with: int64 ``[K]``, images in which the cluster occurs.
        regions: int64 ``[K]``.
        images: how many were added.
    """

    area: np.ndarray
    squared_area: np.ndarray
    border_area: np.ndarray
    images_with: np.ndarray
    regions: np.ndarray
    images: int = 0

    @classmethod
    def zeros(cls, clusters: int) -> ClusterShapes:
        """No image yet."""
        sums = [np.zeros(clusters) for _ in range(3)]
        return cls(*sums, *(np.zeros(clusters, np.int64) for _ in range(2)))

    def __iadd__(self, other: ClusterShapes) -> ClusterShapes:
        for name in ("area", "squared_area", "border_area", "images_with", "regions"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.images += other.images
        return self

    @classmethod
    def of_image(cls, cluster_map: np.ndarray, clusters: int) -> ClusterShapes:
        """Of one image.

        Args:
            cluster_map: integers ``[H, W]``; negative: no cluster.
            clusters: their number K.
        """
        regions = connected_components(cluster_map)
        pixels = np.bincount(regions.ravel())[1:] / regions.size
        cluster_of = np.zeros(len(pixels), np.int64)
        inside = regions > 0
        cluster_of[regions[inside] - 1] = cluster_map[inside]
        edges = np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])
        touching = np.isin(np.arange(1, len(pixels) + 1), edges)

        def per_cluster(values: np.ndarray) -> np.ndarray:
            return np.bincount(cluster_of, weights=values, minlength=clusters)

        counts = np.bincount(cluster_of, minlength=clusters)
        return cls(
            area=per_cluster(pixels),
            squared_area=per_cluster(pixels**2),
            border_area=per_cluster(pixels * touching),
            images_with=(counts > 0).astype(np.int64),
            regions=counts,
            images=1,
        )

    @property
    def region_area(self) -> np.ndarray:
        """``[K]`` share of the image that the region around a random pixel of the cluster has: the
        mean over regions, weighted by their area, so that specks do not make a wall small. NaN for
        a cluster that does not occur."""
        return _divide(self.squared_area, self.area)

    @property
    def border_share(self) -> np.ndarray:
        """``[K]`` share of the cluster's pixels in regions that touch a border of the image."""
        return _divide(self.border_area, self.area)


@dataclass(frozen=True)
class ThingRule:
    """A cluster is a thing if its regions are small and mostly lie inside the image.

    Stuff fills the picture: road, sky and walls come in regions that are large, or that the border
    of the image cuts off. An object is small and, mostly, seen whole. Both are counted on training
    images without any label. Clusters that do not occur are stuff.

    Attributes:
        max_area: largest :attr:`ClusterShapes.region_area` of a thing, share of the image.
        max_border: largest :attr:`ClusterShapes.border_share` of a thing.
    """

    max_area: float
    max_border: float

    def __call__(self, shapes: ClusterShapes) -> np.ndarray:
        """bool ``[K]``: which clusters are things."""
        # NaN is larger than no number, so that is False.
        return (shapes.region_area <= self.max_area) & (shapes.border_share <= self.max_border)


def _divide(sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.divide(sums, weights, out=np.full(len(sums), np.nan), where=weights > 0)
