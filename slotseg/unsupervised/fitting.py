"""Clusters of a training set's parts, found in two looks at its images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from detectron2.utils import comm
from torch import Tensor
from tqdm import tqdm

from slotseg.errors import DatasetError
from slotseg.unsupervised.clusters import Clusters, standardization
from slotseg.unsupervised.kmeans import kmeans
from slotseg.unsupervised.parts import PartFinder
from slotseg.unsupervised.segmenter import cluster_map
from slotseg.unsupervised.things import ClusterShapes, ThingRule

Batches = Iterable[list[dict[str, Any]]]


def find_clusters(
    parts: PartFinder,
    batches: Callable[[], Batches],
    *,
    clusters: int,
    rule: ThingRule,
    parts_per_image: int,
    restarts: int,
    seed: int,
) -> tuple[Clusters, ClusterShapes]:
    """k-means of embeddings, then the shapes of the clusters, which tell things from stuff.

    Every rank looks at its own images; all of them come to the same clusters.

    Args:
        parts: cuts images into parts.
        batches: opens the images, once for each look; results are taken at the size of the input.
        clusters: their number.
        rule: shapes to things and stuff.
        parts_per_image: of every image at most so many parts are clustered, drawn at random.
        restarts: of k-means.
        seed: of all random choices.

    Raises:
        ConfigError: fewer different parts than clusters.
        DatasetError: no image.
    """
    points = _gather_embeddings(parts, batches(), parts_per_image, seed)
    mean, deviation = standardization(points)
    found = Clusters(
        centers=kmeans((points - mean) / deviation, clusters, seed=seed, restarts=restarts),
        mean=mean,
        deviation=deviation,
        is_thing=torch.zeros(clusters, dtype=torch.bool),
    )
    shapes = _gather_shapes(parts, batches(), found)
    is_thing = torch.from_numpy(rule(shapes))
    return Clusters(found.centers, mean, deviation, is_thing), shapes


def _gather_embeddings(parts: PartFinder, batches: Batches, limit: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 1_000_003 * comm.get_rank())
    taken = []
    for batch in _bar(batches, "embeddings"):
        for image in parts(_at_input_size(batch)):
            embeddings = image.embeddings
            if len(embeddings) > limit:
                drawn = torch.randperm(len(embeddings), generator=generator)[:limit]
                embeddings = embeddings[drawn.sort().values]
            taken.append(embeddings)
    gathered = [points for rank in comm.all_gather(taken) for points in rank]
    if not gathered:
        raise DatasetError("DATASETS.TRAIN: no image to find clusters on")
    return torch.cat(gathered)


def _gather_shapes(parts: PartFinder, batches: Batches, clusters: Clusters) -> ClusterShapes:
    shapes = ClusterShapes.zeros(len(clusters))
    for batch in _bar(batches, "shapes of clusters"):
        for image in parts(_at_input_size(batch)):
            cluster_of_part = clusters.of(image.embeddings).numpy()
            shapes += ClusterShapes.of_image(
                cluster_map(image.ids.numpy(), cluster_of_part), len(clusters)
            )
    total = ClusterShapes.zeros(len(clusters))
    for part in comm.all_gather(shapes):
        total += part
    return total


def _at_input_size(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results as large as what the model sees: shapes are shares, so more pixels tell no more."""
    return [
        {**item, "height": item["image"].shape[1], "width": item["image"].shape[2]}
        for item in batch
    ]


def _bar(batches: Batches, title: str) -> Batches:
    quiet = None if comm.is_main_process() else True
    return tqdm(batches, desc=title, unit="batch", leave=False, disable=quiet)
