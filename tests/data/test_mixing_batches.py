"""When which part of a batch is mixed."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.utils import logger as detectron2_logger
from hypothesis import given
from hypothesis import strategies as st

from slotseg.config import get_cfg
from slotseg.data.batch import TrainingBatch
from slotseg.data.mixing import BatchMixing, CutMix, Mosaic, Schedule, build_mixing
from slotseg.errors import ConfigError

ON = ("MIXING.CUTMIX.PROBABILITY", 1.0)


def images(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Of one colour and one segment each."""
    return [
        {
            "image": torch.full((3, 16, 16), number, dtype=torch.uint8),
            "segment_map": torch.zeros(16, 16, dtype=torch.int64),
            "segment_category": torch.tensor([0]),
            "segment_is_object": torch.tensor([True]),
            "segment_is_crowd": torch.tensor([False]),
            "file_name": f"{number}.png",
        }
        for number in range(first, first + count)
    ]


def pictures(dicts: list[dict[str, Any]]) -> torch.Tensor:
    return torch.stack([sample["image"] for sample in dicts])


def whole_batch(labeled: int = 4, pseudo: int = 4) -> TrainingBatch:
    return TrainingBatch(images(labeled), [], images(pseudo, 100), 0.5)


def mixing(*overrides: Any) -> BatchMixing:
    built = build_mixing(get_cfg(None, [*ON, *overrides]))
    assert built is not None
    return built


@given(
    st.floats(0, 1), st.integers(0, 50), st.integers(0, 50), st.integers(0, 120), st.integers(0, 99)
)
def test_a_schedule_begins_grows_and_ends(probability, start, ramp, length, iteration):
    schedule = Schedule(probability, start, ramp, start + length)
    now = schedule.at(iteration)
    if not start <= iteration < start + length:
        assert now == 0
    elif iteration >= start + ramp:
        assert now == probability
    else:
        assert now == pytest.approx(probability * (iteration - start) / ramp)
    assert schedule.ever == any(schedule.at(i) > 0 for i in range(start + length + 1))
    assert Schedule(probability, start, ramp).at(10**6) == probability


def test_off_by_default():
    assert build_mixing(get_cfg()) is None


def test_what_the_config_says_is_built():
    built = mixing(
        *("MIXING.MOSAIC.PROBABILITY", 0.5, "MIXING.MOSAIC.START", 10, "MIXING.MOSAIC.RAMP", 20),
        *("MIXING.MOSAIC.END", -100, "SOLVER.MAX_ITER", 300, "MIXING.CUTMIX.END", 50),
        *("MIXING.MOSAIC.CENTER", (0.4, 0.6), "MIXING.MOSAIC.SCALE", (0.7, 0.9)),
        *("MIXING.CUTMIX.ALPHA", 2.0, "MIXING.MIN_AREA", 5, "MIXING.MIN_SHARE", 0.1, "SEED", 3),
    )
    first, second = built.mixes
    assert (first.name, second.name) == ("mosaic", "cutmix")
    assert isinstance(first.mix, Mosaic) and isinstance(second.mix, CutMix)
    assert (first.mix.center, first.mix.scale) == ((0.4, 0.6), (0.7, 0.9))
    assert second.mix.alpha == 2.0
    assert {one.mix.remains.min_area for one in built.mixes} == {5}
    assert {one.mix.remains.min_share for one in built.mixes} == {0.1}
    assert first.schedule == Schedule(0.5, 10, 20, 200)
    assert second.schedule == Schedule(1.0, 0, 0, 50)
    assert built.probabilities(20) == {"mosaic": 0.25, "cutmix": 1.0}
    assert built.probabilities(199) == {"mosaic": 0.5, "cutmix": 0.0}
    assert built.probabilities(200) == {"mosaic": 0.0, "cutmix": 0.0}
    assert built.seed == 3


def test_parts_stay_among_themselves():
    batch = whole_batch()
    mixed = mixing()(batch, 0)
    assert pictures(mixed.labeled).max() < 100 <= pictures(mixed.pseudo).min()
    assert not torch.equal(pictures(mixed.labeled), pictures(batch.labeled))
    assert not torch.equal(pictures(mixed.pseudo), pictures(batch.pseudo))
    # Boxes of the two parts are not the same.
    changed = [pictures(a) != pictures(b) for a, b in zip_parts(mixed, batch)]
    assert not torch.equal(*changed)
    assert mixed.pseudo_weight == 0.5 and mixed.unlabeled == []
    assert len(batch.labeled) == 4 and "mixed_with" not in batch.labeled[0]


def zip_parts(a: TrainingBatch, b: TrainingBatch) -> list[tuple[Any, Any]]:
    return [(a.labeled, b.labeled), (a.pseudo, b.pseudo)]


@pytest.mark.parametrize("part", ["LABELED", "PSEUDO"])
def test_a_part_can_be_left_alone(part):
    batch = whole_batch()
    mixed = mixing(f"MIXING.{part}", False)(batch, 0)
    untouched, touched = ("labeled", "pseudo") if part == "LABELED" else ("pseudo", "labeled")
    assert getattr(mixed, untouched) is getattr(batch, untouched)
    assert all("mixed_with" in sample for sample in getattr(mixed, touched))
    # What happens to a part does not depend on the other one.
    both = mixing()(batch, 0)
    assert torch.equal(pictures(getattr(both, touched)), pictures(getattr(mixed, touched)))


def test_a_function_of_seed_iteration_and_process():
    batch = whole_batch()

    def result(seed: int, iteration: int, rank: int) -> torch.Tensor:
        return pictures(mixing("SEED", seed)(batch, iteration, rank).labeled)

    np.random.seed(1)
    torch.manual_seed(1)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    results = [result(*key) for key in keys]
    assert np.array_equal(before[0], np.random.get_state()[1])
    assert torch.equal(before[1], torch.get_rng_state())
    np.random.seed(2)
    assert all(torch.equal(result(*key), one) for key, one in zip(keys, results, strict=True))
    for number, one in enumerate(results):
        assert not any(torch.equal(one, other) for other in results[:number])


def test_each_kind_draws_for_itself():
    """Where mosaics are rare, all images get the same boxes as without any."""
    batch = TrainingBatch(images(12))
    mosaics = ("MIXING.MOSAIC.PROBABILITY", 0.3)
    alone = mixing(*mosaics, "MIXING.CUTMIX.PROBABILITY", 0.0)(batch, 0).labeled
    has_mosaic = ["mixed_with" in sample for sample in alone]
    assert 0 < sum(has_mosaic) < 12
    after = mixing(*mosaics)(batch, 0).labeled
    boxes = mixing()(batch, 0).labeled
    assert not torch.equal(pictures(boxes), pictures(after))
    for own, mosaic, box, both in zip(batch.labeled, alone, boxes, after, strict=True):
        outside = box["image"] == own["image"]
        assert torch.equal(both["image"][outside], mosaic["image"][outside])
        assert not torch.equal(both["image"], mosaic["image"])


def test_all_images_of_a_mosaic_in_a_box_are_named():
    batch = TrainingBatch(images(6))
    for sample in mixing("MIXING.MOSAIC.PROBABILITY", 1.0)(batch, 0).labeled:
        shown = {f"{colour}.png" for colour in sample["image"].unique().tolist()}
        named = {sample["file_name"], *sample["mixed_with"]}
        assert shown <= named and len(named) == 1 + len(sample["mixed_with"]) >= 4


def test_a_single_image_is_told_once(caplog):
    built = mixing("SEED", 11)
    batch = TrainingBatch(images(1))
    with caplog.at_level(logging.WARNING):
        assert built(batch, 0).labeled == batch.labeled
        built(batch, 1)
    told = [record.getMessage() for record in caplog.records if "SOLVER.IMS" in record.getMessage()]
    assert len(told) == 1 and "one labelled image at a time" in told[0]


def test_a_mix_that_never_happens_is_told(caplog):
    with caplog.at_level(logging.WARNING):
        mixing("MIXING.CUTMIX.START", 777, "MIXING.CUTMIX.END", 776)
    assert "MIXING.CUTMIX: ends (iteration 776) before it begins" in caplog.text


def test_mixing_pseudo_labels_without_any_is_told(caplog, monkeypatch):
    # Other tests may have been told.
    monkeypatch.setattr(detectron2_logger, "_LOG_COUNTER", detectron2_logger.Counter())
    alone = ("MIXING.LABELED", False)
    with caplog.at_level(logging.WARNING):
        mixing(*alone, "SEMI.IMS_PER_BATCH", 4)
        assert not caplog.records
        mixing(*alone)
    assert "MIXING.LABELED is False and SEMI.IMS_PER_BATCH 0, so nothing is mixed" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("MIXING.CUTMIX.PROBABILITY", 1.5), "MIXING.CUTMIX.PROBABILITY is 1.5"),
        (("MIXING.MOSAIC.PROBABILITY", -0.5), "MIXING.MOSAIC.PROBABILITY is -0.5"),
        (("MIXING.CUTMIX.START", -1), "MIXING.CUTMIX.START is -1"),
        (("MIXING.MOSAIC.RAMP", -1), "MIXING.MOSAIC.RAMP is -1"),
        (("MIXING.CUTMIX.ALPHA", 0.0), "MIXING.CUTMIX.ALPHA is 0.0"),
        (("MIXING.MOSAIC.SCALE", (0.5, 2.0)), "MIXING.MOSAIC.SCALE is"),
        (("MIXING.MIN_AREA", -1), "MIXING.MIN_AREA is -1"),
        (("MIXING.MIN_SHARE", 1.5), "MIXING.MIN_SHARE is 1.5"),
        (("MIXING.LABELED", False, "MIXING.PSEUDO", False), "both False"),
        (("DATASETS.TRAIN_LABELS", False), "DATASETS.TRAIN_LABELS is False"),
        (("MODEL.VIT.CACHE", "folder"), "MODEL.VIT.CACHE holds maps of whole images"),
    ],
)
def test_settings_that_cannot_work(overrides, told):
    with pytest.raises(ConfigError, match=told) as caught:
        mixing(*overrides)
    assert "\n" not in str(caught.value)
