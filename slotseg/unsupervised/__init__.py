"""From a model that never saw a label to panoptic segments whose classes are clusters."""

from slotseg.unsupervised.clusters import Clusters, ClusterSettings
from slotseg.unsupervised.components import connected_components
from slotseg.unsupervised.fitting import find_clusters
from slotseg.unsupervised.kmeans import kmeans, nearest_center
from slotseg.unsupervised.parts import PART_FINDERS, PartFinder, Parts, build_part_finder
from slotseg.unsupervised.segmenter import ClusterSegmenter
from slotseg.unsupervised.things import ClusterShapes, ThingRule

__all__ = [
    "PART_FINDERS",
    "ClusterSegmenter",
    "ClusterSettings",
    "ClusterShapes",
    "Clusters",
    "PartFinder",
    "Parts",
    "ThingRule",
    "build_part_finder",
    "connected_components",
    "find_clusters",
    "kmeans",
    "nearest_center",
]
