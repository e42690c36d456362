"""Labelled and unlabelled images in one batch: independent, resumable, and hard to stop."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.utils import comm
from PIL import Image

from slotseg.config import get_cfg
from slotseg.data import TrainingBatch, build_train_loader, training_images
from slotseg.data.sampling import TrainingOrder, replacements
from slotseg.data.transport import pack, unpack
from slotseg.data.unlabeled_pool import UNREADABLE_FILE
from slotseg.errors import ConfigError, DatasetError

STREETS, SCENES = "cityscapes_generated_train", "clevr_generated_train"


@pytest.fixture(scope="module")
def root(
    tmp_path_factory: pytest.TempPathFactory,
    street_folder_factory: Callable[..., Path],
    scene_folder_factory: Callable[..., Path],
) -> Path:
    folder = tmp_path_factory.mktemp("datasets")
    street_folder_factory(folder, "train", 9, (16, 32))
    street_folder_factory(folder, "tune", 3, (16, 32))
    scene_folder_factory(folder / "clevr_generated" / "train", 8, (16, 16))
    return folder


@pytest.fixture(autouse=True)
def _use_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))


@pytest.fixture
def make_cfg(tmp_path):
    def make(**changes: Any):
        values = {
            "INPUT.IMAGE_SIZE": (16, 32),
            "INPUT.RANDOM_FLIP": "horizontal",
            "MODEL.SLOTS.NUM_SLOTS": 8,
            "DATASETS.TRAIN": (STREETS,),
            "DATASETS.LABELED_IMAGES": 4,
            "SOLVER.IMS_PER_BATCH": 2,
            "SEMI.IMS_PER_BATCH": 4,
            "DATALOADER.NUM_WORKERS": 0,
            "OUTPUT_DIR": str(tmp_path / "output"),
            "SEED": 7,
            **{key.replace("__", "."): value for key, value in changes.items()},
        }
        return get_cfg(None, [item for pair in values.items() for item in pair])

    return make


def take(loader, number: int) -> list[TrainingBatch]:
    return list(itertools.islice(loader, number))


def names(batches: list[TrainingBatch], part: str = "unlabeled") -> list[str]:
    return [image["image_id"] for batch in batches for image in getattr(batch, part)]


def assert_same(first: list[TrainingBatch], second: list[TrainingBatch]) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        for part in ("labeled", "unlabeled", "pseudo"):
            for one, other in zip(getattr(a, part), getattr(b, part), strict=True):
                assert one.keys() == other.keys()
                for key, value in one.items():
                    same = torch.equal if isinstance(value, torch.Tensor) else lambda x, y: x == y
                    assert same(value, other[key]), key


def save_images(folder: Path, number: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(number):
        pixels = np.random.default_rng(index).integers(0, 256, (16, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


def test_a_batch_has_both_parts(make_cfg):
    cfg = make_cfg()
    batch = take(build_train_loader(cfg), 1)[0]
    assert isinstance(batch, TrainingBatch) and not batch.pseudo
    assert len(batch.labeled) == 2 and len(batch.unlabeled) == 4
    assert all("segment_map" in image for image in batch.labeled)
    for image in batch.unlabeled:
        assert not any(key.startswith("segment") for key in image)
        assert image["weak_image"].shape == image["image"].shape == (3, 16, 32)
        assert image["view"].size == (16, 32)


def test_every_image_is_drawn_once_an_epoch_of_its_own_kind(make_cfg):
    cfg = make_cfg(SEMI__IMS_PER_BATCH=5)
    labeled = {entry["image_id"] for entry in training_images(cfg)}
    everything = {entry["image_id"] for entry in DatasetCatalog.get(STREETS)}
    batches = take(build_train_loader(cfg), 4)
    assert sorted(names(batches[:2], "labeled")) == sorted(labeled)
    for batch in batches:  # 5 of 5 unlabelled ones
        assert set(names([batch])) == everything - labeled
    assert names(batches[:1]) != names(batches[1:2])


def test_workers_and_resuming_change_nothing(make_cfg):
    whole = take(build_train_loader(make_cfg()), 6)
    assert_same(take(build_train_loader(make_cfg(DATALOADER__NUM_WORKERS=2)), 4), whole[:4])
    assert_same(take(build_train_loader(make_cfg(), start_iter=4), 2), whole[4:])
    with pytest.raises(AssertionError):
        assert_same(take(build_train_loader(make_cfg(SEED=8)), 6), whole)


def test_neither_kind_depends_on_the_other(make_cfg):
    batches = take(build_train_loader(make_cfg()), 3)
    alone = take(build_train_loader(make_cfg(SEMI__IMS_PER_BATCH=0)), 3)
    assert isinstance(alone[0], list)
    assert_same([TrainingBatch(batch.labeled) for batch in batches], [*map(TrainingBatch, alone)])
    more = take(build_train_loader(make_cfg(SOLVER__IMS_PER_BATCH=3)), 3)
    assert_same([TrainingBatch([], b.unlabeled) for b in batches],
                [TrainingBatch([], b.unlabeled) for b in more])  # fmt: skip


def test_the_two_orders_are_not_one(make_cfg):
    """Sample n of either kind has random numbers of its own."""
    orders = [TrainingOrder(50, 50, 7, stream=stream).batch(0) for stream in (0, 20)]
    assert orders[0] != orders[1]
    cfg = make_cfg(DATASETS__LABELED_IMAGES=9, SEMI__INCLUDE_LABELED=True, SEMI__IMS_PER_BATCH=2)
    batches = take(build_train_loader(cfg), 9)
    assert names(batches, "labeled") != names(batches)


def test_ranks_share_batches(make_cfg, monkeypatch):
    single = take(build_train_loader(make_cfg()), 3)
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        parts.append(take(build_train_loader(make_cfg()), 3))
    joined = [
        TrainingBatch(a.labeled + b.labeled, a.unlabeled + b.unlabeled)
        for a, b in zip(*parts, strict=True)
    ]
    assert_same(joined, single)
    with pytest.raises(ConfigError, match="SEMI.IMS_PER_BATCH is 3, .* of processes, 2"):
        build_train_loader(make_cfg(SEMI__IMS_PER_BATCH=3))


def test_scenes_work_as_well(make_cfg):
    cfg = make_cfg(
        DATASETS__TRAIN=(SCENES,), INPUT__IMAGE_SIZE=(16, 16), INPUT__CROP_WINDOW=(0, 2, 14, 16)
    )
    batch = take(build_train_loader(cfg), 1)[0]
    assert [tuple(image["weak_image"].shape) for image in batch.unlabeled] == [(3, 16, 16)] * 4
    assert "segment_map" in batch.labeled[0] and "segment_map" not in batch.unlabeled[0]


def test_more_sets_and_folders_join_the_pool(make_cfg, tmp_path):
    folder = save_images(tmp_path / "extra", 2)
    cfg = make_cfg(
        DATASETS__UNLABELED=("cityscapes_generated_tune", SCENES),
        DATASETS__UNLABELED_FOLDERS=(str(folder),),
        SEMI__IMS_PER_BATCH=18,
    )
    drawn = names(take(build_train_loader(cfg), 1))
    rest = {e["image_id"] for e in DatasetCatalog.get(STREETS)}
    rest -= {e["image_id"] for e in training_images(cfg)}
    tune = {e["image_id"] for e in DatasetCatalog.get("cityscapes_generated_tune")}
    scenes = {e["image_id"] for e in DatasetCatalog.get(SCENES)}
    assert len(drawn) == 18
    assert set(drawn) == rest | tune | scenes | {"0.png", "1.png"}
    both = make_cfg(SEMI__INCLUDE_LABELED=True, SEMI__IMS_PER_BATCH=9)
    assert len(set(names(take(build_train_loader(both), 1)))) == 9


def test_registered_sets_need_no_annotations(
    make_cfg, tmp_path, monkeypatch, street_folder_factory
):
    folder = street_folder_factory(tmp_path, "train", 6, (16, 32))
    street_folder_factory(tmp_path, "tune", 3, (16, 32))
    (folder / "gtFine" / "cityscapes_panoptic_tune.json").unlink()
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    cfg = make_cfg(
        DATASETS__UNLABELED=("cityscapes_generated_tune",), DATASETS__LABELED_IMAGES=6,
        SEMI__IMS_PER_BATCH=3,
    )  # fmt: skip
    files = {image["file_name"] for image in take(build_train_loader(cfg), 1)[0].unlabeled}
    assert len(files) == 3 and all("leftImg8bit/tune/tiny" in name for name in files)


def test_the_rests_annotations_are_never_opened(
    make_cfg, tmp_path, monkeypatch, street_folder_factory
):
    folder = street_folder_factory(tmp_path, "train", 6, (16, 32))
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    cfg = make_cfg()
    labeled = {entry["image_id"] for entry in training_images(cfg)}
    for path in (folder / "gtFine" / "cityscapes_panoptic_train").iterdir():
        if path.name.removesuffix("_gtFine_panoptic.png") not in labeled:
            path.unlink()
    drawn = names(take(build_train_loader(cfg), 3))
    assert len(drawn) == 12 and not labeled & set(drawn)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_unreadable_files_are_left_out_and_listed(make_cfg, tmp_path, caplog, num_workers):
    folder = save_images(tmp_path / "extra", 4)
    (folder / "empty.png").touch()
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[:200])  # its header is still there
    (folder / "sub").mkdir()
    (folder / "sub" / "text.jpg").write_text("no image")
    cfg = make_cfg(
        DATASETS__LABELED_IMAGES=9,
        DATASETS__UNLABELED_FOLDERS=(str(folder),),
        DATALOADER__NUM_WORKERS=num_workers,
    )
    with caplog.at_level(logging.WARNING, logger="slotseg.data.unlabeled_pool"):
        batches = take(build_train_loader(cfg), 3)
    drawn = [Path(image["file_name"]).name for batch in batches for image in batch.unlabeled]
    assert len(drawn) == 12 and set(drawn) == {"0.png", "2.png", "3.png"}
    assert all(sorted(image) == sorted(batches[0].unlabeled[0]) for image in batches[1].unlabeled)
    assert not any("unreadable" in image for batch in batches for image in batch.unlabeled)
    told = [record.getMessage() for record in caplog.records]
    assert told[0].startswith(f"{folder}: 2 of 6 images cannot be read and are left out, for inst")
    assert len(told) == 2 and told[1].startswith("others take the place of images that cannot")
    assert "1.png: cannot be read as an image" in told[1]
    listed = (tmp_path / "output" / UNREADABLE_FILE).read_text().splitlines()
    assert [line.split(": ")[0] for line in listed] == [
        str(folder / name) for name in ("empty.png", "sub/text.jpg", "1.png")
    ]
    # A run that goes on says nothing twice, and forgets nothing.
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="slotseg.data.unlabeled_pool"):
        again = take(build_train_loader(cfg, start_iter=1), 2)
    assert_same(again, batches[1:])
    assert not caplog.records
    assert (tmp_path / "output" / UNREADABLE_FILE).read_text().splitlines() == listed


def test_other_images_keep_their_places_when_one_cannot_be_read(make_cfg, tmp_path):
    folder = save_images(tmp_path / "extra", 6)
    cfg = make_cfg(DATASETS__LABELED_IMAGES=9, DATASETS__UNLABELED_FOLDERS=(str(folder),))
    before = take(build_train_loader(cfg), 3)
    whole = (folder / "2.png").read_bytes()
    (folder / "2.png").write_bytes(whole[:300])
    after = take(build_train_loader(cfg), 3)
    pairs = list(zip(names(before), names(after), strict=True))
    assert any(old == "2.png" for old, _ in pairs)
    assert all(new == old if old != "2.png" else new != old for old, new in pairs)


def test_replacements_are_drawn_from_all_images_and_for_every_sample_anew():
    drawn = list(itertools.islice(replacements(3, 11, 6), 200))
    assert set(drawn) == set(range(6))
    assert drawn == list(itertools.islice(replacements(3, 11, 6), 200))
    assert drawn != list(itertools.islice(replacements(3, 12, 6), 200))


def test_a_folder_that_is_lost_on_the_way_is_an_error(make_cfg, tmp_path):
    folder = save_images(tmp_path / "extra", 3)
    cfg = make_cfg(DATASETS__LABELED_IMAGES=9, DATASETS__UNLABELED_FOLDERS=(str(folder),))
    loader = build_train_loader(cfg)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match=r"png: no such file.*51 unlabelled images in a row"):
        take(loader, 1)


def test_damaged_images_of_registered_sets_are_an_error(
    make_cfg, tmp_path, monkeypatch, street_folder_factory
):
    street_folder_factory(tmp_path, "train", 6, (16, 32))
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    cfg = make_cfg()
    labeled = {entry["image_id"] for entry in training_images(cfg)}
    rest = [e for e in DatasetCatalog.get(STREETS) if e["image_id"] not in labeled]
    Path(rest[0]["file_name"]).write_bytes(b"")
    with pytest.raises(DatasetError, match="cannot be read as an image") as info:
        take(build_train_loader(cfg), 3)
    assert str(info.value).startswith(rest[0]["file_name"])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"DATASETS__LABELED_IMAGES": 0}, ConfigError, "there is no unlabelled image: label fewer"),
        ({"SEMI__IMS_PER_BATCH": -1}, ConfigError, "SEMI.IMS_PER_BATCH is -1"),
        ({"DATASETS__TRAIN_LABELS": False}, ConfigError, "TRAIN_LABELS False, so no image is"),
        ({"SEMI__VIEW_SCALE": (0.0, 1.0)}, ConfigError, "SEMI.VIEW_SCALE is"),
        ({"DATASETS__UNLABELED": ("clevr_generated_trian",)}, ConfigError, "did you mean clevr"),
        ({"DATASETS__UNLABELED_FOLDERS": ("no/such",)}, DatasetError, "no/such: no such folder"),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_options_name_the_key(make_cfg, changes, error, message):
    with pytest.raises(error, match=message) as info:
        build_train_loader(make_cfg(**changes))
    assert "\n" not in str(info.value)


def test_a_folder_without_any_readable_image_is_an_error(make_cfg, tmp_path):
    folder = tmp_path / "extra"
    folder.mkdir()
    (folder / "empty.png").touch()
    with pytest.raises(DatasetError, match="none of its 1 images can be read; the first: "):
        build_train_loader(make_cfg(DATASETS__UNLABELED_FOLDERS=(str(folder),)))


def test_views_travel_between_processes(make_cfg):
    batch = take(build_train_loader(make_cfg()), 1)[0]
    arrived = unpack(pack(batch.unlabeled))
    assert_same([TrainingBatch([], arrived)], [TrainingBatch([], batch.unlabeled)])


class _NameOnly:
    def __call__(self, entry: dict[str, Any]) -> dict[str, Any]:
        return {"image_id": entry["image_id"]}


def test_own_mappers(make_cfg):
    loader = build_train_loader(make_cfg(), mapper=_NameOnly(), unlabeled_mapper=_NameOnly())
    batch = take(loader, 1)[0]
    assert [list(image) for image in (*batch.labeled, *batch.unlabeled)] == [["image_id"]] * 6
