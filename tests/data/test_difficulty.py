"""How difficult an image is, from what its data set lists."""

from __future__ import annotations

import math

import numpy as np
import pytest

from slotseg.config import get_cfg
from slotseg.data.difficulty import (
    MEASURES,
    check_labels_are_read,
    check_measure,
    hardest,
    image_difficulties,
)
from slotseg.errors import ConfigError

ROAD, CAR, TRAIN = 0, 13, 16


def segment(category, area, *, thing=True, crowd=0):
    return {"category_id": category, "area": area, "isthing": thing, "iscrowd": crowd}


def street(name, *segments):
    return {"file_name": name, "height": 32, "width": 64, "segments_info": list(segments)}


STREETS = [
    street("empty.png", segment(ROAD, 2048, thing=False)),
    street("car.png", segment(ROAD, 1536, thing=False), segment(CAR, 512)),
    street("train.png", segment(ROAD, 4, thing=False), segment(TRAIN, 1024), segment(TRAIN, 64)),
    street(
        "crowd.png", segment(ROAD, 2048, thing=False), segment(CAR, 1, crowd=1), segment(CAR, 512)
    ),
]


def scene(name, *pixels, **more):
    objects = [{"visible_pixels": number} for number in pixels]
    entry = {"file_name": name, "height": 32, "width": 32}
    return {**entry, "num_objects": len(objects), "objects": objects, **more}


SCENES = [scene("0.png", 64, 1), scene("1.png"), scene("2.png", 256), scene("3.png", 512, 512, 0)]


def test_segments_are_counted_without_crowds_and_with_the_background_of_scenes():
    assert image_difficulties(STREETS, "segments").tolist() == [1, 2, 3, 2]
    assert image_difficulties(SCENES, "segments").tolist() == [3, 1, 2, 4]


def test_the_smaller_the_smallest_thing_the_harder():
    # Neither stuff nor crowds are things; 2048 pixels an image.
    assert image_difficulties(STREETS, "smallest_object").tolist() == [0, 2, 5, 2]
    # An object that nobody sees is not small.
    assert image_difficulties(SCENES, "smallest_object").tolist() == [10, 0, 2, 1]


def test_rare_classes_are_hard_and_common_ones_are_free():
    found = image_difficulties(STREETS, "class_rarity")
    assert found == pytest.approx([0, math.log(2), math.log(4), math.log(2)])
    # How often a class is in one image does not matter.
    again = [*STREETS[:2], street("train.png", segment(ROAD, 4), segment(TRAIN, 1)), STREETS[3]]
    assert image_difficulties(again, "class_rarity") == pytest.approx(found)


@pytest.mark.parametrize("measure", MEASURES)
def test_the_order_of_the_images_does_not_matter(measure):
    shuffled = [2, 0, 3, 1]
    found = image_difficulties([STREETS[i] for i in shuffled], measure)
    assert found.dtype == np.float64
    assert np.array_equal(found, image_difficulties(STREETS, measure)[shuffled])


def test_random_is_an_order_of_the_seed():
    first, second, other = (image_difficulties(SCENES, "random", seed) for seed in (0, 0, 1))
    assert np.array_equal(first, second) and not np.array_equal(first, other)
    assert len(set(first)) == 4


def test_hardest_first():
    found = hardest(STREETS, image_difficulties(STREETS, "segments"), 2)
    assert found == [("train.png", 3.0), ("car.png", 2.0)]
    assert found[0].file_name == "train.png" and found[0].difficulty == 3.0
    assert len(hardest(STREETS, np.zeros(4))) == 4


@pytest.mark.parametrize(
    ("measure", "dicts"),
    [
        ("segments", [{"file_name": "no.png"}]),
        ("smallest_object", [*SCENES, scene("no.png", objects=[{"shape": "disc"}])]),
        ("smallest_object", [*STREETS, {"file_name": "no.png"}]),
        ("class_rarity", [*STREETS, scene("no.png", 3)]),
    ],
    ids=["segments", "areas of scenes", "areas", "classes"],
)
def test_sets_that_do_not_list_it(measure, dicts):
    with pytest.raises(ConfigError) as told:
        image_difficulties(dicts, measure)
    assert measure in str(told.value) and "no.png" in str(told.value)
    assert "\n" not in str(told.value)


def test_measures_that_nobody_can_read_off():
    with pytest.raises(ConfigError, match="'size' is unknown; choose from segments, .*, loss"):
        check_measure("size")
    with pytest.raises(ConfigError, match="takes a model"):
        image_difficulties(STREETS, "loss")


@pytest.mark.parametrize("measure", MEASURES)
def test_labels_that_the_training_does_not_have(measure):
    cfg = get_cfg(None, ["CURRICULUM.DIFFICULTY", measure])
    check_labels_are_read(cfg)
    cfg.DATASETS.TRAIN_LABELS = False
    with pytest.raises(ConfigError, match="TRAIN_LABELS"):
        check_labels_are_read(cfg)
    cfg.CURRICULUM.DIFFICULTY = "loss"
    check_labels_are_read(cfg)
