"""Clusters of parts become segments; clusters survive a file; shapes decide what is a thing."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from slotseg.engine.checkpoint_files import save_file
from slotseg.errors import CheckpointError, DatasetError
from slotseg.unsupervised import (
    Clusters,
    ClusterSegmenter,
    ClusterSettings,
    PartFinder,
    Parts,
    ThingRule,
    find_clusters,
)
from slotseg.unsupervised.clusters import standardization

SETTINGS = ClusterSettings(weights="w", images="i", options="o", seed=0)


class Given(PartFinder):
    """The parts that an item of the batch brings."""

    def __init__(self, are_instances):
        self.are_instances = are_instances

    def __call__(self, batch):
        return [item["parts"] for item in batch]


def clusters_at(*values, things=()):
    centers = torch.tensor(values)[:, None]
    is_thing = torch.tensor([number in things for number in range(len(values))])
    return Clusters(centers, torch.zeros(1), torch.ones(1), is_thing)


# Parts 0 and 1 touch and are of one cluster, 2 is around them, 3 is a speck, -1 belongs to nobody.
IDS = torch.tensor([[2, 0, 1, 1, 2], [2, 0, 1, 1, 2], [2, 2, 2, 3, -1]])
PARTS = Parts(IDS, torch.tensor([[1.0], [1.1], [5.0], [9.0]]))


def segment(are_instances, min_area=1, things=(0, 2)):
    clusters = clusters_at(1.0, 5.0, 9.0, things=things)
    segmenter = ClusterSegmenter(nn.Identity(), Given(are_instances), clusters, min_area)
    (output,) = segmenter([{"parts": PARTS}])
    ids, segments = output["panoptic_seg"]
    assert ids.dtype == torch.int32
    assert {s["id"]: s["area"] for s in segments} == {
        number: int((ids == number).sum()) for number in ids.unique().tolist() if number
    }
    return ids, sorted((s["category_id"], s["isthing"], s["area"]) for s in segments)


def test_touching_slots_of_a_thing_are_two_instances():
    ids, segments = segment(are_instances=True)
    assert segments == [(0, True, 2), (0, True, 4), (1, False, 7), (2, True, 1)]
    assert ids[2, 4] == 0
    assert ids[0, 0] == ids[0, 4] == ids[2, 0]  # stuff is one segment, apart or not


def test_touching_pixels_of_a_thing_are_one():
    assert segment(are_instances=False)[1] == [(0, True, 6), (1, False, 7), (2, True, 1)]


def test_small_segments_are_left_out():
    ids, segments = segment(are_instances=True, min_area=3)
    assert segments == [(0, True, 4), (1, False, 7)]
    assert sorted(ids.unique().tolist()) == [0, 1, 2]


def test_parts_of_a_stuff_cluster_merge():
    assert segment(are_instances=True, things=())[1][0] == (0, False, 6)


def test_a_part_in_two_pieces_is_two_instances():
    parts = Parts(torch.tensor([[0, 1, 0]]), torch.tensor([[1.0], [5.0]]))
    segmenter = ClusterSegmenter(
        nn.Identity(), Given(True), clusters_at(1.0, 5.0, things=(0,)), min_area=1
    )
    (output,) = segmenter([{"parts": parts}])
    ids = output["panoptic_seg"][0][0].tolist()
    assert len(set(ids)) == 3


def test_an_image_without_parts_has_no_segments():
    nobody = Parts(torch.full((2, 2), -1), torch.zeros(0, 1))
    segmenter = ClusterSegmenter(nn.Identity(), Given(True), clusters_at(1.0), 1)
    (output,) = segmenter([{"parts": nobody}])
    assert output["panoptic_seg"][1] == [] and not output["panoptic_seg"][0].any()


def test_clusters_and_kinds_are_found_from_the_images():
    def batches():
        image = torch.zeros(3, *IDS.shape)
        frame = torch.tensor([[1, 1, 1, 1], [1, 0, 2, 1], [1, 1, 1, 1]])
        for shift in (0.0, 0.05, -0.05):
            embeddings = torch.tensor([[2.0], [7.0], [2.2]]) + shift
            yield [{"image": image, "parts": Parts(frame, embeddings)}]

    options = {"clusters": 2, "parts_per_image": 10, "restarts": 2, "seed": 0}
    rule = ThingRule(max_area=0.2, max_border=0.5)
    clusters, shapes = find_clusters(Given(True), batches, rule=rule, **options)
    thing, other, stuff = clusters.of(torch.tensor([[2.0], [2.2], [7.0]])).tolist()
    assert thing == other != stuff
    assert clusters.is_thing[thing] and not clusters.is_thing[stuff]
    assert shapes.images == 3
    assert shapes.region_area[thing] == pytest.approx(2 / 12)
    again, _ = find_clusters(Given(True), batches, rule=rule, **options)
    assert torch.equal(again.centers, clusters.centers)


def test_no_image_is_an_error():
    with pytest.raises(DatasetError, match="no image to find clusters on"):
        find_clusters(
            Given(True), list, clusters=2, rule=ThingRule(1, 1), parts_per_image=1, restarts=1,
            seed=0,
        )  # fmt: skip


def test_dimensions_are_scaled_and_constant_ones_left():
    mean, deviation = standardization(torch.tensor([[0.0, 4.0], [2.0, 4.0]]))
    assert mean.tolist() == [1, 4]
    assert deviation.tolist() == [1, 1]


def test_a_file_of_clusters_fits_its_settings_only(tmp_path):
    path, clusters = str(tmp_path / "clusters.pth"), clusters_at(1.0, 5.0, things=(1,))
    save_file(clusters.to_state(SETTINGS), path)
    loaded = Clusters.load(path, SETTINGS)
    assert torch.equal(loaded.centers, clusters.centers)
    assert loaded.is_thing.tolist() == [False, True]
    for field in ("weights", "images", "options"):
        assert Clusters.load(path, dataclasses.replace(SETTINGS, **{field: "other"})) is None


def test_other_files_are_refused(tmp_path):
    path = str(tmp_path / "clusters.pth")
    save_file({"model": {"weight": torch.zeros(1)}}, path)
    with pytest.raises(CheckpointError, match="holds no clusters; remove it"):
        Clusters.load(path, SETTINGS)
