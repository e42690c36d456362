"""Which images are drawn while not all of them are in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slotseg.config import get_cfg
from slotseg.data import build_survey_loader, build_train_loader, training_images
from slotseg.data.curriculum import CurriculumOrder, Rankings, build_training_order
from slotseg.data.pacing import KINDS, Pacing
from slotseg.data.sampling import TrainingOrder
from slotseg.errors import ConfigError

SCENES = [{"file_name": f"{i}.png", "num_objects": n} for i, n in enumerate([3, 1, 4, 1, 5, 9, 2])]

seeds = st.integers(0, 2**31)
pacings = st.builds(
    Pacing, st.sampled_from(KINDS), st.floats(0.05, 1.0), st.integers(0, 40), st.integers(1, 4)
)


@st.composite
def all_rankings(draw) -> Rankings:
    """Of up to 25 images, added at up to four iterations."""
    size, seed = draw(st.integers(1, 25)), draw(seeds)
    rankings = Rankings(size, seed)
    values = st.lists(st.integers(0, 3), min_size=size, max_size=size)
    for since in sorted(draw(st.lists(st.integers(0, 40), max_size=4))):
        rankings.add(since, np.array(draw(values), float))
    return rankings


def take(order: TrainingOrder, start: int, end: int) -> list[list[tuple[int, int]]]:
    return [order.batch(iteration) for iteration in range(start, end)]


@given(all_rankings(), pacings, st.integers(1, 9), seeds)
def test_every_round_holds_the_easiest_images_once(rankings, pacing, batch, seed) -> None:
    order = CurriculumOrder(rankings, pacing, batch, seed)
    total = rankings.num_images
    drawn = [image for entry in take(order, 0, 60) for _, image in entry]
    numbers = [number for entry in take(order, 0, 60) for number, _ in entry]
    assert numbers == list(range(60 * batch))
    first = 0
    while True:
        iteration = first // batch
        ranking = rankings.at(iteration)
        size = total
        if ranking is not None:
            size = min(total, max(batch, pacing.num_images(iteration, total)))
        images = drawn[first : first + size]
        if len(images) < size:
            break
        assert len(set(images)) == size
        if ranking is not None and size < total:
            left_out = set(range(total)) - set(images)
            easiest = ranking.difficulties
            assert max(easiest[images]) <= min(easiest[list(left_out)])
        first += size


@given(all_rankings(), pacings, st.integers(1, 9), seeds, st.integers(0, 50))
def test_resuming_goes_on_as_if_nothing_had_happened(rankings, pacing, batch, seed, start) -> None:
    whole = CurriculumOrder(rankings, pacing, batch, seed)
    expected = take(whole, 0, start + 6)[start:]
    # What a checkpoint of iteration `start` holds, and nothing else.
    saved = Rankings(rankings.num_images, rankings.seed)
    rankings.forget(whole.round_began(start))
    saved.load_state_dict(rankings.state_dict())
    resumed = CurriculumOrder(saved, pacing, batch, seed, start)
    batches = iter(resumed)
    assert [next(batches) for _ in range(6)] == expected


@given(all_rankings(), pacings, st.integers(1, 4), st.integers(1, 4), seeds)
def test_ranks_together_see_what_one_process_sees(rankings, pacing, share, world, seed) -> None:
    batch = share * world
    single = CurriculumOrder(rankings, pacing, batch, seed)
    ranks = [CurriculumOrder(rankings, pacing, batch, seed, 0, r, world) for r in range(world)]
    for iteration in range(12):
        together = [pair for order in ranks for pair in order.batch(iteration)]
        assert together == single.batch(iteration)
        assert [image for _, image in together] == ranks[0].images(iteration).tolist()


@given(st.integers(1, 30), st.integers(1, 8), seeds)
def test_once_all_are_in_rounds_are_epochs(size, batch, seed) -> None:
    rankings = Rankings(size, seed)
    rankings.add(0, np.arange(size))
    order = CurriculumOrder(rankings, Pacing("linear", 0.5, 0), batch, seed)
    drawn = [image for entry in take(order, 0, 4 * size) for _, image in entry]
    for epoch in range(4):
        assert sorted(drawn[epoch * size : (epoch + 1) * size]) == list(range(size))


def test_without_a_ranking_the_order_is_that_of_no_curriculum() -> None:
    plain = TrainingOrder(23, 5, seed=4)
    order = CurriculumOrder(Rankings(23, 4), Pacing("linear", 0.2, 50), 5, seed=4)
    assert take(order, 0, 30) == take(plain, 0, 30)
    assert order.difficulties(3) is None and order.num_images_in(3) == 23


def test_looking_back_does_not_disturb() -> None:
    rankings = Rankings(20, 0)
    rankings.add(0, np.arange(20))
    order = CurriculumOrder(rankings, Pacing("root", 0.2, 30), 3, seed=1)
    expected = take(order.copy(), 0, 25)
    for iteration in (9, 2, 17, 24, 0):
        assert order.batch(iteration) == expected[iteration]


def test_images_that_are_equally_difficult_are_in_a_random_order() -> None:
    firsts = []
    for seed in range(8):
        rankings = Rankings(50, seed)
        rankings.add(0, np.zeros(50))
        firsts.append(tuple(rankings.at(0).easiest_first[:5]))
    assert len(set(firsts)) == 8


def test_rankings_in_use_are_kept() -> None:
    rankings = Rankings(3, 0)
    for since in (2, 5, 9):
        rankings.add(since, np.full(3, since))
    assert rankings.at(1) is None
    assert [rankings.at(t).since for t in (2, 4, 5, 8, 9, 50)] == [2, 2, 5, 5, 9, 9]
    rankings.forget(7)
    assert rankings.state_dict()["since"] == [5, 9]
    # That there was one is all that is known of before.
    assert rankings.at(1) is None and rankings.at(2) is not None
    assert rankings.latest.tolist() == [9, 9, 9]


def test_rankings_that_do_not_fit() -> None:
    rankings = Rankings(3, 0)
    with pytest.raises(ValueError, match="3 images"):
        rankings.add(0, np.zeros(4))
    rankings.add(5, np.zeros(3))
    with pytest.raises(ValueError, match="too late"):
        rankings.add(4, np.zeros(3))


def test_nan_is_harder_than_all() -> None:
    rankings = Rankings(3, 0)
    rankings.add(0, np.array([np.nan, 1.0, np.inf]))
    assert rankings.at(0).easiest_first.tolist() == [1, 2, 0]


def build(*overrides, dicts=SCENES):
    cfg = get_cfg(None, ["SOLVER.MAX_ITER", "20", *overrides])
    return build_training_order(cfg, dicts, 2, seed=3)


def test_off_is_the_plain_order() -> None:
    assert type(build()) is TrainingOrder


def test_the_config_chooses() -> None:
    order = build("CURRICULUM.DIFFICULTY", "segments", "CURRICULUM.START_SHARE", "0.5")
    assert order.pacing == Pacing("linear", 0.5, 10, 4)
    assert order.difficulties(0).tolist() == [4, 2, 5, 2, 6, 10, 3]
    assert {image for entry in take(order, 0, 2) for _, image in entry} == {0, 1, 3, 6}
    assert order.num_images_in(19) == 7
    assert build("CURRICULUM.DIFFICULTY", "loss").rankings.latest is None


def test_a_curriculum_that_cannot_work() -> None:
    with pytest.raises(ConfigError, match="'hard' is unknown"):
        build("CURRICULUM.DIFFICULTY", "hard")
    with pytest.raises(ConfigError, match="does not list"):
        build("CURRICULUM.DIFFICULTY", "class_rarity")
    with pytest.raises(ConfigError, match="CURRICULUM.PACING"):
        build("CURRICULUM.DIFFICULTY", "loss", "CURRICULUM.PACING", "fast")


@pytest.fixture
def scenes_cfg(tmp_path, monkeypatch, scene_folder_factory):
    scene_folder_factory(tmp_path / "clevr_generated" / "train", num_scenes=9, objects=(1, 5))
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))

    def make(*overrides):
        base = ["DATASETS.TRAIN", "('clevr_generated_train',)", "DATALOADER.NUM_WORKERS", "0"]
        base += ["INPUT.IMAGE_SIZE", "(32, 32)", "INPUT.RANDOM_FLIP", "horizontal"]
        return get_cfg(None, [*base, "SOLVER.IMS_PER_BATCH", "3", *overrides])

    return make


def test_the_loader_follows_the_curriculum(scenes_cfg) -> None:
    cfg = scenes_cfg("CURRICULUM.DIFFICULTY", "segments", "CURRICULUM.START_SHARE", "0.34")
    loader = build_train_loader(cfg)
    assert isinstance(loader.order, CurriculumOrder)
    batches = iter(loader)
    drawn = [image["segment_is_object"].sum().item() for _ in range(2) for image in next(batches)]
    easiest = sorted(entry["num_objects"] for entry in training_images(cfg))[:4]
    assert sorted(drawn[:4]) == easiest
    # Opened in the middle it goes on with the same images.
    again = next(iter(build_train_loader(cfg, start_iter=2)))
    expected = next(batches)
    assert [x["file_name"] for x in again] == [x["file_name"] for x in expected]


def test_only_labelled_images_are_ordered(scenes_cfg) -> None:
    cfg = scenes_cfg(
        *("DATASETS.LABELED_IMAGES", "5", "SEMI.IMS_PER_BATCH", "2"),
        *("CURRICULUM.DIFFICULTY", "segments", "CURRICULUM.START_SHARE", "0.6"),
    )
    images = training_images(cfg)
    loader = build_train_loader(cfg)
    assert len(images) == loader.order.num_images == 5 and loader.order.num_images_in(0) == 3
    batch = next(iter(loader))
    easiest = sorted(entry["num_objects"] for entry in images)[:3]
    assert sorted(x["segment_is_object"].sum().item() for x in batch.labeled) == easiest
    others = {x["file_name"] for x in batch.unlabeled}
    assert len(others) == 2 and not others & {entry["file_name"] for entry in images}
    assert len(list(build_survey_loader(cfg))) == 5


def test_the_survey_shows_every_image_once_and_as_it_is(scenes_cfg) -> None:
    cfg = scenes_cfg()
    first, second = (list(build_survey_loader(cfg)) for _ in range(2))
    names = [entry["file_name"] for entry in training_images(cfg)]
    assert [image["file_name"] for (image,) in first] == names
    assert all("segment_map" in image for (image,) in first)
    # Nothing is flipped now and not then.
    assert all((a["image"] == b["image"]).all() for (a,), (b,) in zip(first, second, strict=True))
    (blank,) = next(iter(build_survey_loader(scenes_cfg("DATASETS.TRAIN_LABELS", "False"))))
    assert "segment_map" not in blank
