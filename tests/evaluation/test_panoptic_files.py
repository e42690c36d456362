"""Scoring files equals the published evaluations, and names what is wrong with bad files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slotseg.errors import ConfigError, DatasetError
from slotseg.evaluation.panoptic_files import evaluate_files
from slotseg.evaluation.panoptic_quality import (
    PanopticCounts,
    SegmentMap,
    class_qualities,
    count_image,
    group_quality,
)
from slotseg.panoptic_png import read_id_map, write_id_map


def cityscapes_scores(gt_json, gt_dir, pred_json, pred_dir):
    peer = pytest.importorskip("cityscapesscripts.evaluation.evalPanopticSemanticLabeling")
    truth, prediction = (json.loads(Path(path).read_text()) for path in (gt_json, pred_json))
    categories = {entry["id"]: entry for entry in truth["categories"]}
    predicted = {entry["image_id"]: entry for entry in prediction["annotations"]}
    pairs = [(entry, predicted[entry["image_id"]]) for entry in truth["annotations"]]
    stat = peer.pq_compute_single_core(0, pairs, gt_dir, pred_dir, categories)
    return peer.average_pq(stat, categories), stat.pq_per_cat


def assert_equal_to_peer(report, results, per_class=None):
    """All, things and stuff; classes; counts where the peer gives them."""
    for name, group in report.groups.items():
        expected = results[name.capitalize()]
        for key in ("pq", "sq", "rq"):
            assert getattr(group, key) == pytest.approx(expected[key], abs=1e-9)
        assert group.classes == expected["n"]
    for number, quality in zip(report.classes.dataset_ids, report.per_class, strict=True):
        for key in ("pq", "sq", "rq"):
            value = getattr(quality, key)
            # An absent class is 0 there, and left out of the means.
            expected = results["per_class"][number][key]
            assert (0.0 if math.isnan(value) else value) == pytest.approx(expected, abs=1e-9)
        if per_class is not None:
            counts = per_class[number]
            assert (quality.tp, quality.fp, quality.fn) == (counts.tp, counts.fp, counts.fn)


@pytest.mark.parametrize("seed", range(4))
def test_equals_cityscapesscripts(panoptic_files, seed):
    files = panoptic_files(images=30, seed=seed)
    report = evaluate_files(*files.paths)
    assert_equal_to_peer(report, *cityscapes_scores(*files.paths))
    total = report.groups["all"]
    assert min(total.tp, total.fp, total.fn) > 10  # the comparison is about something
    assert any(s["iscrowd"] for a in files.content["gt"]["annotations"] for s in a["segments_info"])


def test_equals_panopticapi(panoptic_files):
    panopticapi = pytest.importorskip("panopticapi.evaluation")
    files = panoptic_files(images=12)
    gt_json, gt_dir, pred_json, pred_dir = files.paths
    results = panopticapi.pq_compute(gt_json, pred_json, gt_folder=gt_dir, pred_folder=pred_dir)
    assert_equal_to_peer(evaluate_files(*files.paths), results)


def test_threads_change_nothing(panoptic_files):
    files = panoptic_files(images=12)
    assert evaluate_files(*files.paths, workers=4) == evaluate_files(*files.paths)


def test_number_and_text_are_the_same_image_id(panoptic_files):
    files = panoptic_files(images=4)
    before = evaluate_files(*files.paths)
    for number, (true, pred) in enumerate(
        zip(*(files.content[side]["annotations"] for side in ("gt", "pred")), strict=True)
    ):
        true["image_id"], pred["image_id"] = number, str(number)
    files.write_json()
    assert evaluate_files(*files.paths) == before


def test_a_subset_is_scored_only_when_it_is_asked_for(panoptic_files):
    files = panoptic_files(images=6)
    kept = files.content["pred"]["annotations"][1:4]
    files.content["pred"]["annotations"] = [*kept, {**kept[0], "image_id": "elsewhere"}]
    files.write_json()
    with pytest.raises(DatasetError, match=r"no prediction for 3 images \(city0/000000, "):
        evaluate_files(*files.paths)
    part = evaluate_files(*files.paths, allow_subset=True)
    assert (part.images, part.images_expected) == (3, 6)
    assert part.setting().endswith(" classes, 3 of 6 images")
    files.content["gt"]["annotations"] = files.content["gt"]["annotations"][1:4]
    files.write_json()
    with pytest.raises(DatasetError, match=r"predictions for unknown 1 images \(elsewhere\)"):
        evaluate_files(*files.paths)
    files.content["pred"]["annotations"].pop()
    files.write_json()
    assert evaluate_files(*files.paths).groups == part.groups
    files.content["pred"]["annotations"] = []
    files.write_json()
    with pytest.raises(DatasetError, match=r"pred\.json: no image of"):
        evaluate_files(*files.paths, allow_subset=True)


def test_a_set_without_stuff_and_one_without_things(panoptic_files):
    files = panoptic_files(images=6, things_only=True)
    things = evaluate_files(*files.paths)
    assert list(things.groups) == ["all", "things"]
    assert things.groups["all"] == things.groups["things"]
    for category in files.content["gt"]["categories"]:
        category["isthing"] = 0
    files.write_json()
    stuff = evaluate_files(*files.paths)
    assert list(stuff.groups) == ["all", "stuff"]
    assert stuff.groups["stuff"] == things.groups["things"]


def test_a_class_that_never_occurs_is_left_out_of_the_mean(panoptic_files):
    files = panoptic_files(images=6)
    before = evaluate_files(*files.paths)
    files.content["gt"]["categories"].append({"id": 99, "name": "unicorn", "isthing": 1})
    files.write_json()
    report = evaluate_files(*files.paths)
    assert math.isnan(report.per_class[-1].pq)
    assert report.groups == before.groups
    scores = report.scores()
    assert math.isnan(scores["PQ-unicorn"])
    assert scores["classes"] == 4.0
    assert "unicorn" in report.table()
    assert "nan" not in report.table()
    assert "\nthings " in report.table()
    assert "\nthings " not in report.table(groups=False)


def test_report_as_json_has_every_number(panoptic_files):
    files = panoptic_files(images=6)
    report = evaluate_files(*files.paths)
    path = files.folder / "new" / "scores.json"
    report.write_json(str(path))
    content = json.loads(path.read_text())
    assert content["groups"]["all"]["pq"] == report.groups["all"].pq
    assert [entry["name"] for entry in content["classes"]] == ["person", "road", "car", "sky"]
    assert [entry["category_id"] for entry in content["classes"]] == [24, 7, 26, 23]
    assert content["classes"][2]["fp"] == report.per_class[2].fp
    assert (content["images"], content["images_expected"]) == (6, 6)
    assert 100 * content["groups"]["stuff"]["rq"] == report.scores()["RQ_stuff"]


def first(files, side="pred"):
    """An annotation with segments."""
    return next(entry for entry in files.content[side]["annotations"] if entry["segments_info"])


def test_every_contradiction_names_the_file_and_the_id(panoptic_files):
    files = panoptic_files(images=4)

    def fault(message):
        files.write_json()
        with pytest.raises(DatasetError) as caught:
            evaluate_files(*files.paths)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)

    for side in ("pred", "gt"):
        entry = first(files, side)
        segments, path = entry["segments_info"], str(files.folder / side / entry["file_name"])
        removed = segments.pop()
        fault(f"{path}: segment ids {removed['id']} are in the map, but not in segments_info")
        segments.append(removed)
        segments.append({"id": 12345, "category_id": 7})
        fault(f"{path}: segment ids 12345 are in segments_info, but no pixel")
        segments[-1] = dict(segments[0])
        fault(f"{path}: segment {segments[0]['id']} is listed twice")
        segments[-1:] = []
        segments[0]["category_id"] += 100
        fault(f"{path}: segment {segments[0]['id']} has the unknown category_id ")
        segments[0]["category_id"] -= 100

    pred = first(files)
    path = files.folder / "pred" / pred["file_name"]
    ids = read_id_map(str(path))
    write_id_map(str(path), np.pad(ids, 1))
    fault(f"{path}: {ids.shape[1] + 2}x{ids.shape[0] + 2} pixels, but the truth")
    Image.fromarray(ids.astype(np.uint16)).save(path)
    fault(f"{path}: a 16-bit grey PNG, expected an 8-bit RGB PNG")
    path.unlink()
    fault(f"{path}: no such panoptic PNG")
    write_id_map(str(path), ids)

    files.content["pred"]["annotations"].append(pred)
    fault(f"pred.json: image {pred['image_id']} has two annotations")
    files.content["pred"]["annotations"].pop()
    files.write_json()
    assert evaluate_files(*files.paths).images == 4


def test_json_files_of_other_kinds_are_refused(panoptic_files):
    files = panoptic_files(images=2)
    arguments = files.paths

    def fault(side, text, message):
        path = files.folder / f"{side}.json"
        whole = path.read_text()
        path.write_text(text)
        with pytest.raises(DatasetError) as caught:
            evaluate_files(*arguments)
        assert f"{side}.json: " in str(caught.value)
        assert message in str(caught.value)
        path.write_text(whole)

    for side in ("gt", "pred"):
        whole = (files.folder / f"{side}.json").read_text()
        fault(side, whole[: len(whole) // 2], "no JSON, or cut short")
        fault(side, "[]", 'has no list "annotations"')
        fault(side, '{"annotations": {}}', 'has no list "annotations"')
        content = files.content[side] | {"annotations": [{"image_id": 1}]}
        fault(side, json.dumps(content), "annotation 0 is not one of COCO panoptic format")
        for name in ("../a.png", "/a.png", "s3://a/b.png"):
            first = {**files.content[side]["annotations"][0], "file_name": name}
            content = files.content[side] | {"annotations": [first]}
            message = f'annotation 0: "file_name" is {name!r}, expected a path inside the folder'
            fault(side, json.dumps(content), message)
    truth = files.content["gt"]
    person = truth["categories"][0]
    for categories, message in (
        ([], "lists no categories"),
        ([{"id": 1, "name": "car"}], "category 0 is {'id': 1, 'name': 'car'}, expected"),
        ([person, {**person, "name": "other"}], "two categories have the same id"),
        ([person, {**person, "id": 99}], "two categories have the same name"),
    ):
        fault("gt", json.dumps(truth | {"categories": categories}), message)
    with pytest.raises(DatasetError, match=r"none\.json: cannot be read"):
        evaluate_files(str(files.folder / "none.json"), *arguments[1:])
    with pytest.raises(ConfigError, match="expected at least 1"):
        evaluate_files(*arguments, workers=0)


def test_coco_sample_with_crowd(samples_dir, tmp_path):
    folder = samples_dir / "coco_panoptic_sample" / "sample_data"
    if not folder.is_dir():
        pytest.skip("no COCO panoptic sample here")
    gt_json, gt_dir = str(folder / "panoptic_examples.json"), str(folder / "panoptic_examples")
    truth = json.loads(Path(gt_json).read_text())
    flags = [s["iscrowd"] for a in truth["annotations"] for s in a["segments_info"]]
    assert sum(flags) > 0

    itself = evaluate_files(gt_json, gt_dir, gt_json, gt_dir)
    assert itself.groups["all"].pq == 1.0
    assert itself.groups["all"].tp == len(flags) - sum(flags)
    assert_equal_to_peer(itself, *cityscapes_scores(gt_json, gt_dir, gt_json, gt_dir))

    # Every segment moved and some lost, so that all of TP, FP and FN occur.
    annotations = []
    for entry in truth["annotations"]:
        ids = read_id_map(f"{gt_dir}/{entry['file_name']}")
        moved = np.roll(ids, 9, axis=1)
        for number in sorted(set(moved.ravel().tolist()))[::4]:
            moved[moved == number] = 0
        left = set(moved.ravel().tolist())
        write_id_map(str(tmp_path / "pred" / entry["file_name"]), moved)
        segments = [s for s in entry["segments_info"] if s["id"] in left]
        annotations.append({**entry, "segments_info": segments})
    (tmp_path / "pred.json").write_text(json.dumps({"annotations": annotations}))
    paths = gt_json, gt_dir, str(tmp_path / "pred.json"), str(tmp_path / "pred")
    report = evaluate_files(*paths)
    assert min(report.groups["all"].tp, report.groups["all"].fp, report.groups["all"].fn) > 0
    assert_equal_to_peer(report, *cityscapes_scores(*paths))


def test_deeplab2_crowd_sample(samples_dir, tmp_path):
    """Cars beside a crowd of cars, in Cityscapes' ids."""
    folder = samples_dir / "deeplab2_testdata" / "data" / "testdata" / "gtFine"
    if not folder.is_dir():
        pytest.skip("no deeplab2 sample here")
    truth = json.loads((folder / "cityscapes_panoptic_dummy_trainId.json").read_text())
    entry = truth["annotations"][0]
    gt_dir = folder / "cityscapes_panoptic_dummy_trainId"
    ids = read_id_map(str(gt_dir / entry["file_name"]))
    write_id_map(str(tmp_path / "pred" / entry["file_name"]), np.roll(ids, 12, axis=0))
    truth["categories"] = [
        {"id": c, "name": f"class {c}", "isthing": int(c >= 11)} for c in range(19)
    ]
    for side in ("gt", "pred"):
        (tmp_path / f"{side}.json").write_text(json.dumps(truth))
    paths = [str(tmp_path / "gt.json"), str(gt_dir)]
    paths += [str(tmp_path / "pred.json"), str(tmp_path / "pred")]
    report = evaluate_files(*paths)
    assert report.groups["all"].classes == 5
    assert 0 < report.groups["all"].pq < 1
    assert_equal_to_peer(report, *cityscapes_scores(*paths))


# Colours of classes in the predictions, and classes of the grey values in the truth.
DEEPLAB2_COLORS = {
    (0, 0, 0): 0, (0, 0, 255): 1, (255, 0, 0): 2, (0, 255, 0): 3, (255, 0, 255): 4,
    (0, 255, 255): 5, (255, 255, 0): 6,
}  # fmt: skip
DEEPLAB2_IMAGES = {
    "bird": ("bird_gt.png", {92: 5, 176: 3, 255: 4}),
    "cat": ("cat_gt.png", {0: 0, 255: 6}),
    "team": (
        "team_gt_instance.png",
        {0: 0, 47: 1, 97: 1, 133: 1, 150: 1, 174: 1, 198: 2, 215: 1, 244: 1, 255: 1},
    ),
}


@pytest.mark.parametrize(
    ("names", "classes", "expected"),
    [
        (["team"], 2, (0.62156284, 0.64664984, 0.9666667, 8, 0, 1)),
        (["bird", "cat", "team"], 6, (0.76855499, 0.7769174, 0.98888892, 12, 0, 1)),
    ],
    ids=["one image", "three images"],
)
def test_deeplab2_pairs_have_the_published_scores(samples_dir, names, classes, expected):
    """Scores that the tests of deeplab2's own metric expect for these files."""
    folder = samples_dir / "deeplab2_testdata" / "evaluation" / "testdata"
    if not folder.is_dir():
        pytest.skip("no deeplab2 sample here")

    def read(name):
        with Image.open(folder / name) as image:
            return np.asarray(image.convert("RGB")).astype(np.int64)

    def segment_map(class_map, instances, name):
        ids = np.where(class_map > 0, class_map * 256 + instances, 0)
        segments = [{"id": i, "category_id": i // 256} for i in set(ids.ravel().tolist()) - {0}]
        return SegmentMap(ids, segments, name)

    counts = PanopticCounts.zeros(6)
    for name in names:
        file_name, class_of = DEEPLAB2_IMAGES[name]
        instances = read(file_name)[..., 0]
        truth = segment_map(np.vectorize(class_of.get)(instances), instances, file_name)
        guessed = np.apply_along_axis(
            lambda color: DEEPLAB2_COLORS[tuple(color.tolist())], 2, read(f"{name}_pred_class.png")
        )
        instances = read(f"{name}_pred_instance.png")[..., 0]
        prediction = segment_map(guessed, instances, f"{name}_pred")
        counts += count_image(truth, prediction, {number: number - 1 for number in range(1, 7)})
    group = group_quality(class_qualities(counts))
    assert group.classes == classes
    assert (group.pq, group.sq, group.rq) == pytest.approx(expected[:3], abs=1e-6)
    assert (group.tp, group.fp, group.fn) == expected[3:]
