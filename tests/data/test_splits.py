"""Which images are labelled: a rule that nests, lists, and what goes wrong with either."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import logger as detectron2_logger
from hypothesis import given
from hypothesis import strategies as st

from slotseg.classes import Category, ClassSet, set_class_metadata
from slotseg.config import get_cfg
from slotseg.data import epoch_length, training_images
from slotseg.data.image_lists import read_list, write_list
from slotseg.data.splits import (
    Split,
    choose_images,
    format_split,
    missing_classes,
    split_training_images,
)
from slotseg.errors import ConfigError, DatasetError

TRAIN, TUNE = "cityscapes_generated_train", "cityscapes_generated_tune"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, street_folder_factory: Callable[..., Path]):
    folder = tmp_path_factory.mktemp("datasets")
    street_folder_factory(folder, "train", 20, (16, 32))
    street_folder_factory(folder, "tune", 5, (16, 32))
    return folder


@pytest.fixture(autouse=True)
def _use_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    monkeypatch.setattr(detectron2_logger, "_LOG_COUNTER", detectron2_logger.Counter())


def make_cfg(**changes: Any) -> CfgNode:
    values = {"TRAIN": (TRAIN,), **changes}
    return get_cfg(None, [x for key, value in values.items() for x in (f"DATASETS.{key}", value)])


def entries(number: int) -> list[dict[str, Any]]:
    return [{"image_id": f"image_{i}", "file_name": f"a/image_{i}.png"} for i in range(number)]


def ids(dicts: list[dict[str, Any]]) -> list[str]:
    return [entry["image_id"] for entry in dicts]


@given(
    number=st.integers(1, 60), seed=st.integers(0, 2**40), order=st.randoms(use_true_random=False)
)
def test_the_choice_is_nested_and_does_not_depend_on_the_order_of_files(number, seed, order):
    dicts = entries(number)
    chosen = [dicts[i]["image_id"] for i in choose_images(dicts, number, seed)]
    assert sorted(chosen) == sorted(ids(dicts))
    shuffled = dicts[:]
    order.shuffle(shuffled)
    for count in (1, number // 3, number):
        fewer = [shuffled[i]["image_id"] for i in choose_images(shuffled, count, seed)]
        assert fewer == chosen[:count]
    # Without one image nothing else changes.
    removed = dicts.pop(order.randrange(number))["image_id"]
    rest = [dicts[i]["image_id"] for i in choose_images(dicts, number - 1, seed)]
    assert rest == [name for name in chosen if name != removed]


def test_the_rule_is_the_documented_one():
    """Anybody can find the same images again, with any tool."""
    dicts = entries(30)
    keys = {name: hashlib.sha256(f"3/{name}".encode()).hexdigest() for name in ids(dicts)}
    expected = sorted(keys, key=keys.get)[:4]
    assert [dicts[i]["image_id"] for i in choose_images(dicts, 4, 3)] == expected
    assert choose_images(dicts, 4, 4) != choose_images(dicts, 4, 3)


def test_every_image_is_chosen_about_equally_often():
    dicts = entries(20)
    counts = [0] * 20
    for seed in range(400):
        for index in choose_images(dicts, 5, seed):
            counts[index] += 1
    assert min(counts) >= 65 and max(counts) <= 135


def test_images_of_two_sets_that_share_an_id_are_told_apart_by_their_files():
    dicts = [{"image_id": "1", "file_name": f"{folder}/{folder}.png"} for folder in "abcd"]
    first = [dicts[i]["file_name"] for i in choose_images(dicts, 2, 0)]
    assert first == [dicts[::-1][i]["file_name"] for i in choose_images(dicts[::-1], 2, 0)]


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ({}, 20),
        ({"LABELED_FRACTION": 1.0}, 20),
        ({"LABELED_FRACTION": 0.25}, 5),
        ({"LABELED_FRACTION": 0.33}, 7),
        ({"LABELED_FRACTION": 0.001}, 1),
        ({"LABELED_IMAGES": 6}, 6),
        ({"LABELED_IMAGES": 20}, 20),
        ({"LABELED_IMAGES": 3, "MAX_IMAGES": 10}, 3),
        ({"LABELED_FRACTION": 0.5, "MAX_IMAGES": 10}, 5),
        ({"LABELED_FRACTION": 0.2, "TRAIN": (TRAIN, TUNE)}, 5),
    ],
    ids=str,
)
def test_shares_and_numbers(change, count):
    cfg = make_cfg(**change)
    split = split_training_images(cfg)
    assert len(split.labeled) == count
    everything = training_images(make_cfg(**{k: v for k, v in change.items() if "LAB" not in k}))
    assert sorted(ids(split.labeled) + ids(split.rest)) == sorted(ids(everything))
    # The order of the sets stays, in both parts.
    for part in (split.labeled, split.rest):
        assert ids(part) == [name for name in ids(everything) if name in set(ids(part))]
    assert training_images(cfg) == split.labeled
    # Periods that are counted in epochs are those of a training with all labels.
    assert epoch_length(cfg) == -(-len(everything) // cfg.SOLVER.IMS_PER_BATCH)


def test_smaller_splits_are_part_of_larger_ones_however_they_are_given():
    sizes = [{"LABELED_IMAGES": 2}, {"LABELED_FRACTION": 0.25}, {"LABELED_IMAGES": 11}]
    chosen = [set(ids(split_training_images(make_cfg(**size)).labeled)) for size in sizes]
    assert chosen[0] < chosen[1] < chosen[2]
    other = split_training_images(make_cfg(LABELED_FRACTION=0.25, SPLIT_SEED=1)).labeled
    assert set(ids(other)) != chosen[1] and len(other) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"LABELED_FRACTION": 0.0}, "LABELED_FRACTION is 0.0, which leaves no labelled image"),
        ({"LABELED_FRACTION": 1.5}, "LABELED_FRACTION is 1.5"),
        ({"LABELED_FRACTION": -0.1}, "LABELED_FRACTION is -0.1"),
        ({"LABELED_IMAGES": -1}, "LABELED_IMAGES is -1"),
        ({"LABELED_IMAGES": 21}, "LABELED_IMAGES is 21, but the training set has 20 images"),
        (
            {"LABELED_FRACTION": 0.5, "LABELED_IMAGES": 3},
            "LABELED_FRACTION, DATASETS.LABELED_IMAGES: each of them chooses",
        ),
        ({"LABELED_IMAGES": 3, "LABELED_LIST": "x.txt"}, "LABELED_IMAGES, DATASETS.LABELED_LIST"),
        ({"TRAIN": ()}, "DATASETS.TRAIN is empty"),
    ],
    ids=str,
)
def test_wrong_options_name_the_keys(change, message):
    with pytest.raises(ConfigError, match=message) as info:
        split_training_images(make_cfg(**change))
    assert "\n" not in str(info.value)


def test_a_list_gives_back_the_split_it_was_written_from(tmp_path):
    split = split_training_images(make_cfg(LABELED_IMAGES=7))
    path = str(tmp_path / "lists" / "seven.txt")
    write_list(path, split.labeled, split.rest, "seven images\nby hand")
    assert Path(path).read_text().startswith("# seven images\n# by hand\ntiny_")
    assert split_training_images(make_cfg(LABELED_LIST=path)) == split


def test_a_list_of_sets_that_share_ids_is_read_back(tmp_path):
    """Drives and videos often count from 0, each for itself."""
    dicts = [
        {"image_id": str(number), "file_name": f"/data/{folder}/{number}.png"}
        for folder in "ab"
        for number in range(3)
    ]
    dicts.append({"image_id": "7", "file_name": "/data/b/7.png"})
    chosen = [0, 4, 6]
    path = str(tmp_path / "list.txt")
    write_list(path, [dicts[i] for i in chosen], [dicts[i] for i in (1, 2, 3, 5)])
    assert Path(path).read_text().splitlines() == ["/data/a/0.png", "/data/b/1.png", "7"]
    assert read_list(path, dicts) == chosen


def test_images_are_named_in_many_ways(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(
        "\ufeff# a comment\n\ntiny_000003_000000\n"
        "  tiny_000001_000000_leftImg8bit.png  # the second\n"
        "tiny_000002_000000_leftImg8bit\r\n"
        "train/tiny/tiny_000000_000000_leftImg8bit.png\n"
        "tiny/tiny_000004_000000_leftImg8bit\n"
        "tiny_000003_000000\n",
        encoding="utf-8",
    )
    dicts = DatasetCatalog.get(TRAIN)
    assert read_list(str(path), dicts) == [3, 1, 2, 0, 4]
    assert ids(split_training_images(make_cfg(LABELED_LIST=str(path))).labeled) == [
        f"tiny_{index:06d}_000000" for index in range(5)
    ]


def test_names_that_fit_several_images_take_more_of_the_path(tmp_path):
    path = tmp_path / "list.txt"
    dicts = [{"image_id": name, "file_name": f"/data/{name}/image_02/000000.png"} for name in "abc"]
    path.write_text("000000\n")
    with pytest.raises(DatasetError, match=r"list.txt: line 1: '000000' fits 3 images, among them"):
        read_list(str(path), dicts)
    path.write_text("b/image_02/000000.png\nc\n")
    assert read_list(str(path), dicts) == [1, 2]
    # Also where the file of one image is called like the id of another.
    dicts = [
        {"image_id": name, "file_name": f"/{folder}/{stem}.png"}
        for name, folder, stem in (("1", "a", "7"), ("7", "b", "1"))
    ]
    path.write_text("7\na/7\n")
    assert read_list(str(path), dicts) == [1, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"tiny_000001_000000\ntiny_00000\n", "line 2: 'tiny_00000' is neither .* did you mean"),
        (b"other/tiny_000001_000000_leftImg8bit.png", "line 1: 'other/tiny_000001"),
        (b"# nothing\n\n", "names no image, so none would be labelled"),
        (b"\xff\xfe\x00", "is no text in UTF-8"),
        (None, "cannot be read"),
    ],
    ids=str,
)
def test_faulty_lists_name_file_and_line(tmp_path, content, message):
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=message) as info:
        split_training_images(make_cfg(LABELED_LIST=str(path)))
    assert str(info.value).startswith(f"{path}: ") and "\n" not in str(info.value)


def segments(*numbers: int, iscrowd: int = 0) -> dict[str, Any]:
    return {"segments_info": [{"category_id": n, "iscrowd": iscrowd} for n in numbers]}


def test_classes_without_labels_are_found():
    split = Split([segments(0, 1), segments(4, iscrowd=1)], [segments(1, 3, 4), segments(3)])
    assert missing_classes(split) == [3, 4]
    assert missing_classes(Split([{"num_objects": 2}], [{"num_objects": 3}])) == []
    table = format_split(
        split, ClassSet(tuple("abcde"), (True, False) * 2 + (True,), tuple(range(5)))
    )
    assert [line.split() for line in table.splitlines()[2:]] == [
        ["a", "thing", "1", "1"],
        ["b", "stuff", "1", "2"],
        ["c", "thing", "0", "0"],
        ["d", "stuff", "0", "2"],
        ["e", "thing", "0", "1"],
        ["(any)", "2", "4"],
    ]


def test_a_split_that_leaves_a_class_without_labels_is_warned_of_once(
    tmp_path, monkeypatch, caplog, street_folder_factory
):
    folder = street_folder_factory(tmp_path, "train", 6, (16, 32))
    annotations = folder / "gtFine" / "cityscapes_panoptic_train.json"
    content = json.loads(annotations.read_text())
    chosen = choose_images(
        [{"image_id": i["id"], "file_name": i["file_name"]} for i in content["images"]], 2, 0
    )
    for index in chosen:
        for segment in content["annotations"][index]["segments_info"]:
            if segment["id"] == 24000:  # a person
                segment["iscrowd"] = 1
    annotations.write_text(json.dumps(content))
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with caplog.at_level(logging.INFO, logger="slotseg.data.splits"):
        for _ in range(3):
            split_training_images(make_cfg(LABELED_IMAGES=2))
    (told, warned) = caplog.records
    assert told.getMessage() == f"{TRAIN}: 2 of 6 images are labelled"
    assert warned.levelno == logging.WARNING
    assert f"{TRAIN}: 2 of 6 images are labelled, and none of them shows person:" in (
        warned.getMessage()
    )


def test_sets_of_different_classes_are_refused_before_any_is_named(monkeypatch):
    """Class 4 of the second set is none of the first."""
    names = ("two_classes", "five_classes")
    dicts = {
        name: [
            {"image_id": f"{name}{i}", "file_name": f"{name}{i}.png", **segments(i % number)}
            for i in range(10)
        ]
        for name, number in zip(names, (2, 5), strict=True)
    }
    try:
        for name, number in zip(names, (2, 5), strict=True):
            DatasetCatalog.register(name, lambda name=name: dicts[name])
            categories = [Category(i, f"{name}{i}", True, (0, 0, i)) for i in range(number)]
            set_class_metadata(name, categories)
        with pytest.raises(ConfigError, match=r"five_classes \(5 classes, 5 things\) has other"):
            split_training_images(make_cfg(TRAIN=names, LABELED_IMAGES=2))
    finally:
        for name in names:
            DatasetCatalog.pop(name)
            MetadataCatalog.pop(name)


def test_without_a_split_nothing_is_said(caplog):
    with caplog.at_level(logging.INFO, logger="slotseg.data.splits"):
        split = split_training_images(make_cfg())
    assert split.rest == [] and not caplog.records
