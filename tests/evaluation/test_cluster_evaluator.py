"""Clusters under any names score as their classes would; extra ones are merged or left out."""

from __future__ import annotations

import json
import multiprocessing

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from slotseg.classes import Category, set_class_metadata
from slotseg.errors import DatasetError
from slotseg.evaluation.cluster_evaluator import ClusterPanopticEvaluator
from slotseg.evaluation.panoptic_evaluator import PanopticQualityEvaluator
from slotseg.panoptic_png import write_id_map

NAME = "clusters_test"
CLASSES = [
    Category(1, "road", False, (9, 9, 9)),
    Category(2, "sky", False, (8, 8, 8)),
    Category(3, "car", True, (7, 7, 7)),
]
# Sky above road, two cars, and a void pixel.
TRUTH = np.array([[2, 2, 2, 2], [1, 11, 12, 1], [1, 11, 12, 0]])
TRUE_SEGMENTS = [
    {"id": number, "category_id": category, "iscrowd": 0, "isthing": category == 2}
    for number, category in ((1, 0), (2, 1), (11, 2), (12, 2))
]


@pytest.fixture
def item(tmp_path):
    path = str(tmp_path / "truth.png")
    write_id_map(path, TRUTH)
    if NAME in DatasetCatalog:
        DatasetCatalog.remove(NAME)
    MetadataCatalog.pop(NAME, None)
    set_class_metadata(NAME, CLASSES)
    entry = {
        "image_id": "a", "file_name": "a.png", "pan_seg_file_name": path,
        "segments_info": TRUE_SEGMENTS, "height": 3, "width": 4,
    }  # fmt: skip
    DatasetCatalog.register(NAME, lambda: [entry])
    yield entry
    DatasetCatalog.remove(NAME)
    MetadataCatalog.pop(NAME, None)


def predicted(ids, clusters):
    """``clusters``: id -> (cluster, whether it is a thing)."""
    segments = [{"id": i, "category_id": c, "isthing": t} for i, (c, t) in clusters.items()]
    return {"panoptic_seg": (torch.tensor(np.array(ids), dtype=torch.int32), segments)}


def score(item, output, clusters, **options):
    evaluator = ClusterPanopticEvaluator(NAME, clusters, **options)
    evaluator.process([item], [output])
    return evaluator.evaluate()


PERFECT = {1: (4, False), 2: (0, False), 11: (3, True), 12: (3, True)}


def test_a_perfect_segmentation_has_full_quality_whatever_the_clusters_are_called(item):
    results = score(item, predicted(TRUTH, PERFECT), 5)
    assert results["panoptic"]["PQ"] == 100
    assert results["clusters"] == {
        "clusters": 5, "thing_clusters": 1, "assigned_clusters": 3, "classes": 3,
        "matched_classes": 3, "accuracy": 100, "mIoU": 100,
    }  # fmt: skip


def test_two_stuff_clusters_of_a_class_are_one_segment_or_one_of_them_is_nothing(item):
    # The road in two pieces of 2 pixels and 1.
    ids = np.where((TRUTH == 1) & (np.arange(4) == 3), 5, TRUTH)
    clusters = {**PERFECT, 5: (1, False)}
    merged = score(item, predicted(ids, clusters), 5)
    assert merged["panoptic"]["PQ"] == 100
    assert merged["clusters"]["assigned_clusters"] == 4
    strict = score(item, predicted(ids, clusters), 5, extra="void")
    assert strict["panoptic"]["PQ-road"] == pytest.approx(100 * 2 / 3)
    assert strict["clusters"]["assigned_clusters"] == 3
    assert strict["clusters"]["accuracy"] == pytest.approx(100 * 10 / 11)
    assert strict["clusters"]["mIoU"] == pytest.approx(100 * (2 / 3 + 1 + 1) / 3)


def test_two_thing_clusters_of_a_class_stay_two_instances(item):
    results = score(item, predicted(TRUTH, {**PERFECT, 12: (1, True)}), 5)
    assert results["panoptic"]["PQ"] == 100
    assert results["clusters"]["assigned_clusters"] == 4


def test_things_are_not_given_to_stuff(item):
    results = score(item, predicted(TRUTH, {**PERFECT, 2: (0, True)}), 5)
    assert results["panoptic"]["PQ-sky"] == 0
    assert results["clusters"]["matched_classes"] == 2


def test_the_scores_are_those_of_the_panoptic_evaluator_on_the_relabelled_segments(item):
    rng = np.random.default_rng(0)
    ids = np.where(rng.random(TRUTH.shape) < 0.2, 0, TRUTH)
    expected = PanopticQualityEvaluator(NAME)
    true = {s["id"]: s["category_id"] for s in TRUE_SEGMENTS}
    present = [{"id": i, "category_id": c} for i, c in true.items() if (ids == i).any()]
    expected.process([item], [{"panoptic_seg": (ids, present)}])
    output = predicted(ids, {i: PERFECT[i] for i in true if (ids == i).any()})
    assert score(item, output, 5)["panoptic"] == expected.evaluate()["panoptic"]


def test_crowds_do_not_decide_about_classes(item):
    crowd = [{**s, "iscrowd": int(s["id"] == 11)} for s in TRUE_SEGMENTS]
    output = predicted(np.where(TRUTH == 11, 3, 0), {3: (0, True)})
    results = score({**item, "segments_info": crowd}, output, 1)
    assert results["clusters"]["assigned_clusters"] == 0


def test_every_cluster_is_written(item, tmp_path):
    score(item, predicted(TRUTH, PERFECT), 5, output_dir=str(tmp_path / "out"))
    content = json.loads((tmp_path / "out" / f"{NAME}_clusters.json").read_text())
    assert [c["class"] for c in content["clusters"]] == ["sky", None, None, "car", "road"]
    assert content["clusters"][0]["purity"] == 1
    assert content["clusters"][0]["share"] == pytest.approx(4 / 11)
    assert (tmp_path / "out" / f"{NAME}_panoptic.json").is_file()


def test_a_second_evaluation_starts_afresh(item):
    evaluator = ClusterPanopticEvaluator(NAME, 5)
    for _ in range(2):
        evaluator.reset()
        evaluator.process([item], [predicted(TRUTH, PERFECT)])
        assert evaluator.evaluate()["panoptic"]["images"] == 1


def _rank(rank, world, folder, pairs, queue):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world
    )
    evaluator = ClusterPanopticEvaluator(NAME, 5)
    evaluator.process(*zip(*pairs[rank::world], strict=True))
    queue.put((rank, evaluator.evaluate(), evaluator.assignment.tolist()))
    torch.distributed.destroy_process_group()


def test_two_ranks_agree_on_the_assignment_of_all_images(item, tmp_path):
    # By itself the second image would give the road's cluster to the sky.
    second = np.where(TRUTH == 2, 2, 0)
    pairs = [
        ({**item, "image_id": "a"}, predicted(TRUTH, PERFECT)),
        ({**item, "image_id": "b"}, predicted(second, {2: (4, False)})),
        ({**item, "image_id": "c"}, predicted(TRUTH, PERFECT)),
        ({**item, "image_id": "d"}, predicted(TRUTH, {**PERFECT, 12: (1, True)})),
    ]
    alone = ClusterPanopticEvaluator(NAME, 5)
    alone.process(*zip(*pairs, strict=True))
    expected = alone.evaluate()
    context = multiprocessing.get_context("fork")  # keeps what is registered
    queue = context.Queue()
    processes = [
        context.Process(target=_rank, args=(rank, 2, str(tmp_path), pairs, queue))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    found = sorted((queue.get(timeout=60) for _ in processes), key=lambda entry: entry[0])
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert found == [
        (0, expected, alone.assignment.tolist()), (1, {}, alone.assignment.tolist())
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("output", "change", "message"),
    [
        ({}, {}, "prediction for image a: missing"),
        (predicted(TRUTH, {1: (7, False)}), {}, "cluster 7, but there are 5; set UNSUPERVISED"),
        (predicted(TRUTH[:, :3], PERFECT), {}, "3x3 pixels, but the truth .* has 4x3"),
        (predicted(TRUTH, PERFECT), {"segments_info": None}, "has no panoptic truth"),
    ],
    ids=["missing", "unknown cluster", "other size", "no truth"],
)
def test_what_cannot_be_scored_is_refused(item, output, change, message):
    item = {k: change.get(k, v) for k, v in item.items() if change.get(k, v) is not None}
    with pytest.raises(DatasetError, match=message):
        score(item, output, 5)
