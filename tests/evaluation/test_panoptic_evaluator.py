"""The evaluator equals scoring files, on any split over ranks, and refuses what it cannot score."""

from __future__ import annotations

import json
import logging
import multiprocessing
import tracemalloc

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import inference_on_dataset
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm

from slotseg.classes import set_class_metadata
from slotseg.errors import ConfigError, DatasetError
from slotseg.evaluation.panoptic_evaluator import PanopticQualityEvaluator
from slotseg.evaluation.panoptic_files import evaluate_files
from slotseg.panoptic_png import read_id_map


def pairs(files):
    """(data set dict, model output) of every image."""
    outputs = []
    for item in files.dicts("pred"):
        ids = torch.from_numpy(read_id_map(item["pan_seg_file_name"]))
        segments = [{**s, "isthing": True, "area": 1} for s in item["segments_info"]]
        outputs.append({"panoptic_seg": (ids, segments)})
    return list(zip(files.dicts("gt"), outputs, strict=True))


def feed(evaluator, images, batch=3):
    for start in range(0, len(images), batch):
        evaluator.process(*zip(*images[start : start + batch], strict=True))
    return evaluator


def test_equals_scoring_the_files_in_any_order_and_batching(panoptic_files, registered):
    files = panoptic_files(images=9)
    name, images = registered(files), pairs(files)
    expected = evaluate_files(*files.paths).scores()
    results = feed(PanopticQualityEvaluator(name), images).evaluate()
    assert results == {"panoptic": expected}
    assert feed(PanopticQualityEvaluator(name), images[::-1], 1).evaluate() == results
    assert all(type(value) is float for value in flatten_results_dict(results).values())
    assert set(results["panoptic"]) == {
        *(f"{q}{g}" for q in ("PQ", "SQ", "RQ") for g in ("", "_things", "_stuff")),
        *(f"{q}-{c.name}" for q in ("PQ", "SQ", "RQ") for c in files.categories),
        "classes",
        "images",
        "images_expected",
    }
    assert 1 < expected["PQ"] < 99  # percent


def test_a_subset_is_allowed_and_counted(panoptic_files, registered, caplog):
    files = panoptic_files(images=6)
    name = registered(files)
    with caplog.at_level(logging.INFO, logger="slotseg.evaluation.panoptic_evaluator"):
        scores = feed(PanopticQualityEvaluator(name), pairs(files)[:4]).evaluate()["panoptic"]
    assert (scores["images"], scores["images_expected"]) == (4.0, 6.0)
    assert f"{name}: panoptic quality of every class in percent, " in caplog.text
    assert " classes, 4 of 6 images\n" in caplog.text
    for category in files.categories:
        assert f"\n{category.name} " in caplog.text
    # Groups are shown by whoever asked for the scores.
    assert "\nall " not in caplog.text


def test_scores_are_written_with_all_classes(panoptic_files, registered, tmp_path):
    files = panoptic_files(images=5)
    name, output_dir = registered(files), tmp_path / "out"
    evaluator = PanopticQualityEvaluator(name, output_dir=str(output_dir))
    scores = feed(evaluator, pairs(files)).evaluate()["panoptic"]
    assert [path.name for path in output_dir.iterdir()] == [f"{name}_panoptic.json"]
    content = json.loads((output_dir / f"{name}_panoptic.json").read_text())
    assert 100 * content["groups"]["all"]["pq"] == scores["PQ"]
    assert [entry["name"] for entry in content["classes"]] == [c.name for c in files.categories]


def test_export_is_a_submission_that_scores_the_same(panoptic_files, registered, tmp_path):
    files = panoptic_files(images=7)
    name, output_dir = registered(files), str(tmp_path / "out")
    evaluator = PanopticQualityEvaluator(name, output_dir=output_dir, export_coco=True)
    results = feed(evaluator, pairs(files)).evaluate()["panoptic"]
    exported = f"{output_dir}/{name}_predictions"
    again = evaluate_files(*files.paths[:2], f"{exported}.json", exported)
    assert again.scores() == results
    content = json.loads((tmp_path / "out" / f"{name}_predictions.json").read_text())
    names = [entry["file_name"] for entry in content["annotations"]]
    assert len(set(names)) == 7  # although frames of both cities have the same base names
    segments = [entry for a in content["annotations"] for entry in a["segments_info"]]
    assert {entry["category_id"] for entry in segments} <= {7, 23, 24, 26}
    assert [entry["id"] for entry in content["categories"]] == [24, 7, 26, 23]
    assert content["images"][0]["height"] == 24


@pytest.mark.parametrize("image_root", ["images", "images/", ""])
def test_exported_images_are_named_by_their_path_in_the_set(
    panoptic_files, registered, tmp_path, image_root
):
    files = panoptic_files(images=7)
    name, output_dir = registered(files), str(tmp_path)
    MetadataCatalog.get(name).set(image_root=image_root)
    evaluator = PanopticQualityEvaluator(name, output_dir=output_dir, export_coco=True)
    items = [({**x, "file_name": f"/data/{x['file_name']}"}, y) for x, y in pairs(files)]
    feed(evaluator, items).evaluate()
    content = json.loads((tmp_path / f"{name}_predictions.json").read_text())
    inside = {f"{entry['id']}.jpg" for entry in content["images"]}
    assert len(inside) == 7
    expected = inside if image_root else {path.rpartition("/")[2] for path in inside}
    assert {entry["file_name"] for entry in content["images"]} == expected


def test_export_of_numbered_images_has_numbers(panoptic_files, registered, tmp_path):
    files = panoptic_files(images=3)
    for side in ("gt", "pred"):
        for image_id, entry in zip(
            ("139", "0139", "x"), files.content[side]["annotations"], strict=True
        ):
            entry["image_id"] = image_id
    name, output_dir = registered(files), str(tmp_path)
    evaluator = PanopticQualityEvaluator(name, output_dir=output_dir, export_coco=True)
    feed(evaluator, pairs(files)).evaluate()
    content = json.loads((tmp_path / f"{name}_predictions.json").read_text())
    assert {entry["image_id"] for entry in content["annotations"]} == {139, "0139", "x"}
    assert {entry["id"] for entry in content["images"]} == {139, "0139", "x"}
    with pytest.raises(ConfigError, match="output_dir"):
        PanopticQualityEvaluator(name, export_coco=True)


def test_ids_that_a_png_cannot_hold_are_refused_on_export_only(
    panoptic_files, registered, tmp_path
):
    files = panoptic_files(images=1, seed=1)
    item, _ = pairs(files)[0]
    ids = torch.from_numpy(read_id_map(item["pan_seg_file_name"])).long()
    large = torch.where(ids > 0, ids + 2**24, 0)
    segments = [{**s, "id": s["id"] + 2**24} for s in item["segments_info"]]
    assert segments
    output = {"panoptic_seg": (large, segments)}
    name = registered(files)
    assert (
        feed(PanopticQualityEvaluator(name), [(item, output)]).evaluate()["panoptic"]["PQ"] == 100
    )
    evaluator = PanopticQualityEvaluator(name, output_dir=str(tmp_path / "out"), export_coco=True)
    with pytest.raises(DatasetError, match=r"prediction for image city0/000000: ids must be in"):
        feed(evaluator, [(item, output)])


def test_a_set_of_things_only(panoptic_files, registered):
    files = panoptic_files(images=5, things_only=True)
    scores = feed(PanopticQualityEvaluator(registered(files)), pairs(files)).evaluate()["panoptic"]
    assert scores["PQ"] == scores["PQ_things"]
    assert "PQ_stuff" not in scores


def test_what_cannot_be_scored_is_refused_by_name(panoptic_files, registered):
    files = panoptic_files(images=4)
    name, images = registered(files), pairs(files)
    item, output = next(pair for pair in images if pair[0]["segments_info"])
    ids, segments = output["panoptic_seg"]
    who = f"prediction for image {item['image_id']}: "

    def fault(message, item=item, output=output):
        evaluator = PanopticQualityEvaluator(name)
        with pytest.raises(DatasetError) as caught:
            evaluator.process([item], [output])
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)

    fault(f"{who}missing", output={})
    fault(f"{who}missing", output={"panoptic_seg": None})
    fault(f"{who}missing, or without a list", output={"panoptic_seg": (ids, None)})
    fault(
        f"{who}{ids.shape[1]}x{ids.shape[0] - 1} pixels",
        output={"panoptic_seg": (ids[1:], segments)},
    )
    fault(
        f"{who}segment ids 999 are in segments_info",
        output={"panoptic_seg": (ids, [*segments, {"id": 999, "category_id": 0}])},
    )
    fault("are in the map, but not in segments_info", output={"panoptic_seg": (ids, [])})
    unknown = [{**segments[0], "category_id": 4}, *segments[1:]]
    fault(
        "has the unknown category_id 4; known are 0, 1, 2, 3",
        output={"panoptic_seg": (ids, unknown)},
    )
    fault(f"{item['pan_seg_file_name']}: segment ids", item={**item, "segments_info": []})
    fault("no panoptic truth", item={k: v for k, v in item.items() if k != "pan_seg_file_name"})
    fault("none.png: no such panoptic PNG", item={**item, "pan_seg_file_name": "none.png"})

    evaluator = feed(PanopticQualityEvaluator(name), images)
    with pytest.raises(DatasetError, match=r"image city0/000000 was scored twice"):
        feed(evaluator, images[:1])
    with pytest.raises(DatasetError, match="no image was scored"):
        PanopticQualityEvaluator(name).evaluate()
    with pytest.raises(ConfigError, match="no panoptic classes"):
        PanopticQualityEvaluator("a_set_without_classes")


def test_reset_forgets(panoptic_files, registered):
    files = panoptic_files(images=4)
    name, images = registered(files), pairs(files)
    evaluator = feed(PanopticQualityEvaluator(name), images)
    evaluator.reset()
    expected = feed(PanopticQualityEvaluator(name), images[:2]).evaluate()
    assert feed(evaluator, images[:2]).evaluate() == expected


def test_one_image_on_two_ranks_is_refused(panoptic_files, registered, monkeypatch):
    files = panoptic_files(images=2)
    evaluator = feed(PanopticQualityEvaluator(registered(files)), pairs(files))
    monkeypatch.setattr(comm, "gather", lambda data, dst=0: [data, data])
    with pytest.raises(DatasetError, match="was scored twice"):
        evaluator.evaluate()


def _rank(rank, world, folder, name, images, queue):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world
    )
    evaluator = PanopticQualityEvaluator(name, output_dir=f"{folder}/out", export_coco=True)
    queue.put((rank, feed(evaluator, images[rank::world]).evaluate()))
    torch.distributed.destroy_process_group()


def test_three_ranks_give_the_same_bits(panoptic_files, registered, tmp_path):
    files = panoptic_files(images=7)
    name, images = registered(files), pairs(files)
    context = multiprocessing.get_context("fork")  # keeps what is registered
    queue = context.Queue()
    processes = [
        context.Process(target=_rank, args=(rank, 3, str(tmp_path), name, images, queue))
        for rank in range(3)
    ]
    for process in processes:
        process.start()
    results = dict(queue.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert results[0] == feed(PanopticQualityEvaluator(name), images).evaluate()
    assert results[1] == results[2] == {}
    content = json.loads((tmp_path / "out" / f"{name}_predictions.json").read_text())
    assert len(content["annotations"]) == 7


def test_memory_does_not_grow_with_the_images(panoptic_files, registered):
    files = panoptic_files(images=1)
    name = registered(files)
    item, output = pairs(files)[0]
    evaluator = PanopticQualityEvaluator(name)

    def score(numbers):
        for number in numbers:
            evaluator.process([{**item, "image_id": f"{number:06d}"}], [output])

    score(range(20))
    tracemalloc.start()
    try:
        score(range(20, 220))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The id of an image and its place in a table, not its map.
    assert kept / 200 < 300 < output["panoptic_seg"][0].nbytes / 5


def test_works_with_detectron2s_inference_loop(panoptic_files, registered):
    files = panoptic_files(images=4)
    name, images = registered(files), pairs(files)
    outputs = {item["image_id"]: output for item, output in images}

    class Model(torch.nn.Module):
        def forward(self, inputs):
            return [outputs[item["image_id"]] for item in inputs]

    loader = [[item] for item, _ in images]
    results = inference_on_dataset(Model(), loader, PanopticQualityEvaluator(name))
    assert results["panoptic"] == evaluate_files(*files.paths).scores()


def test_classes_that_are_known_only_after_loading(panoptic_files):
    files = panoptic_files(images=2)

    def load():
        set_class_metadata("lazy_panoptic", files.categories)
        return files.dicts("gt")

    DatasetCatalog.register("lazy_panoptic", load)
    try:
        scores = feed(PanopticQualityEvaluator("lazy_panoptic"), pairs(files)).evaluate()
        assert scores["panoptic"]["images_expected"] == 2
    finally:
        DatasetCatalog.remove("lazy_panoptic")
        MetadataCatalog.remove("lazy_panoptic")


def test_arrays_are_as_good_as_tensors(panoptic_files, registered):
    files = panoptic_files(images=2)
    name, images = registered(files), pairs(files)
    arrays = [
        (item, {"panoptic_seg": (np.asarray(out["panoptic_seg"][0]), out["panoptic_seg"][1])})
        for item, out in images
    ]
    expected = feed(PanopticQualityEvaluator(name), images).evaluate()
    assert feed(PanopticQualityEvaluator(name), arrays).evaluate() == expected
