"""Training and test loaders: same data for any number of workers, errors that name files."""

from __future__ import annotations

import itertools
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.utils import comm
from detectron2.utils import logger as detectron2_logger

from slotseg.config import get_cfg
from slotseg.data import SceneMapper, build_test_loader, build_train_loader, epoch_length
from slotseg.data.scene_folder import SceneWriter
from slotseg.errors import ConfigError, DatasetError

TRAIN, TUNE, VAL = (f"clevr_generated_{split}" for split in ("train", "tune", "val"))
Batch = list[dict[str, Any]]


@pytest.fixture(scope="module")
def root(
    tmp_path_factory: pytest.TempPathFactory, scene_folder_factory: Callable[..., Path]
) -> Path:
    folder = tmp_path_factory.mktemp("datasets")
    for seed, (split, number) in enumerate({"train": 10, "tune": 5, "val": 7}.items()):
        scene_folder_factory(folder / "clevr_generated" / split, number, (16, 16), (1, 4), seed)
    return folder


@pytest.fixture(autouse=True)
def _use_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))


def make_cfg(**changes: Any) -> CfgNode:
    values = {
        "INPUT.IMAGE_SIZE": (16, 16),
        "INPUT.RANDOM_FLIP": "horizontal",
        "DATASETS.TRAIN": (TRAIN,),
        "SOLVER.IMS_PER_BATCH": 4,
        "TEST.IMS_PER_BATCH": 3,
        "DATALOADER.NUM_WORKERS": 0,
        "SEED": 7,
        **{key.replace("__", "."): value for key, value in changes.items()},
    }
    return get_cfg(None, [item for pair in values.items() for item in pair])


def take(loader: Any, number: int) -> list[Batch]:
    return list(itertools.islice(loader, number))


def assert_same(first: list[Batch], second: list[Batch]) -> None:
    assert [len(batch) for batch in first] == [len(batch) for batch in second]
    for a, b in zip(itertools.chain(*first), itertools.chain(*second), strict=True):
        assert a.keys() == b.keys() and a["file_name"] == b["file_name"]
        for key in ("image", "segment_map", "segment_is_object"):
            assert torch.equal(a[key], b[key])


def test_an_epoch_is_every_image_once() -> None:
    cfg = make_cfg(SOLVER__IMS_PER_BATCH=5)
    assert epoch_length(cfg) == 2
    batches = take(build_train_loader(cfg), 4)
    assert [len(batch) for batch in batches] == [5] * 4
    for epoch in (batches[:2], batches[2:]):
        names = {item["image_id"] for batch in epoch for item in batch}
        assert names == {f"{TRAIN}_{i:06d}" for i in range(10)}


def test_workers_and_resuming_change_nothing() -> None:
    whole = take(build_train_loader(make_cfg()), 7)
    assert_same(take(build_train_loader(make_cfg(DATALOADER__NUM_WORKERS=2)), 7), whole)
    assert_same(take(build_train_loader(make_cfg(), start_iter=3), 4), whole[3:])
    resumed = build_train_loader(make_cfg(DATALOADER__NUM_WORKERS=1), start_iter=5)
    assert_same(take(resumed, 2), whole[5:])


def test_augmentation_differs_between_epochs_and_follows_the_seed() -> None:
    def flipped(batches: list[Batch]) -> dict[str, list[bool]]:
        plain = {
            item["image_id"]: item["image"]
            for batch in build_test_loader(make_cfg(), TRAIN)
            for item in batch
        }
        result: dict[str, list[bool]] = {}
        for item in itertools.chain(*batches):
            name = item["image_id"]
            result.setdefault(name, []).append(not torch.equal(item["image"], plain[name]))
        return result

    first = flipped(take(build_train_loader(make_cfg()), 20))
    flat = list(itertools.chain(*first.values()))
    assert len(flat) == 80 and 25 <= sum(flat) <= 55
    assert any(len(set(flips)) == 2 for flips in first.values())
    assert flipped(take(build_train_loader(make_cfg(SEED=8)), 20)) != first


def test_negative_seed_is_zero() -> None:
    assert_same(
        take(build_train_loader(make_cfg(SEED=-1)), 2),
        take(build_train_loader(make_cfg(SEED=0)), 2),
    )


@pytest.mark.parametrize("num_workers", [0, 2])
def test_global_generators_are_left_alone(num_workers: int) -> None:
    cfg = make_cfg(DATALOADER__NUM_WORKERS=num_workers)
    states = (torch.get_rng_state(), np.random.get_state()[1].copy())
    take(build_train_loader(cfg), 3)
    list(build_test_loader(cfg, VAL))
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])


def test_ranks_share_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    single = take(build_train_loader(make_cfg()), 3)
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        parts.append(take(build_train_loader(make_cfg()), 3))
    assert_same([a + b for a, b in zip(*parts, strict=True)], single)
    with pytest.raises(ConfigError, match="SOLVER.IMS_PER_BATCH is 5, .* of processes, 2"):
        build_train_loader(make_cfg(SOLVER__IMS_PER_BATCH=5))


def test_ranks_share_the_test_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comm, "get_world_size", lambda: 3)
    names = []
    for rank in range(3):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        loader = build_test_loader(make_cfg(), VAL)
        batches = list(loader)
        assert len(batches) == len(loader) == 1
        names += [item["image_id"] for batch in batches for item in batch]
    assert names == [f"{VAL}_{i:06d}" for i in range(7)]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_test_loader_is_in_order_and_can_be_read_twice(num_workers: int) -> None:
    loader = build_test_loader(make_cfg(DATALOADER__NUM_WORKERS=num_workers), VAL)
    assert len(loader) == 3
    first = list(loader)
    assert [len(batch) for batch in first] == [3, 3, 1]
    assert [item["image_id"][-1] for batch in first for item in batch] == list("0123456")
    assert_same(list(loader), first)


def test_several_sets_are_concatenated() -> None:
    cfg = make_cfg(DATASETS__TRAIN=(TRAIN, TUNE), SOLVER__IMS_PER_BATCH=15)
    assert epoch_length(cfg) == 1
    ids = {item["image_id"] for item in take(build_train_loader(cfg), 1)[0]}
    assert len(ids) == 15 and sum(name.startswith(TUNE) for name in ids) == 5


def test_max_objects_counts_objects() -> None:
    counts = [entry["num_objects"] for entry in DatasetCatalog.get(TRAIN)]
    limit = sorted(counts)[4]
    expected = sum(count <= limit for count in counts)
    assert 0 < expected < 10
    cfg = make_cfg(DATASETS__MAX_OBJECTS=limit, SOLVER__IMS_PER_BATCH=1)
    assert epoch_length(cfg) == expected
    loaded = list(build_test_loader(cfg, TRAIN))
    sizes = [len(item["segment_is_object"]) - 1 for batch in loaded for item in batch]
    assert len(sizes) == expected and max(sizes) <= limit


def test_max_images_takes_the_first_of_every_set() -> None:
    cfg = make_cfg(DATASETS__TRAIN=(TRAIN, TUNE), DATASETS__MAX_IMAGES=2, SOLVER__IMS_PER_BATCH=4)
    assert epoch_length(cfg) == 1
    expected = {
        DatasetCatalog.get(name)[index]["image_id"] for name in (TRAIN, TUNE) for index in (0, 1)
    }
    assert {item["image_id"] for item in take(build_train_loader(cfg), 1)[0]} == expected
    tested = [item["image_id"] for batch in build_test_loader(cfg, TUNE) for item in batch]
    assert tested == [entry["image_id"] for entry in DatasetCatalog.get(TUNE)[:2]]


def test_the_endless_loader_has_no_length() -> None:
    with pytest.raises(TypeError):
        len(build_train_loader(make_cfg()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"DATASETS__TRAIN": ()}, "DATASETS.TRAIN is empty"),
        ({"DATASETS__TRAIN": ("clevr_generated_trian",)}, "did you mean clevr_generated_train"),
        ({"DATASETS__MAX_OBJECTS": -1}, "DATASETS.MAX_OBJECTS is -1"),
        ({"DATASETS__MAX_IMAGES": -1}, "DATASETS.MAX_IMAGES is -1"),
        ({"DATALOADER__NUM_WORKERS": -1}, "DATALOADER.NUM_WORKERS is -1"),
        ({"SOLVER__IMS_PER_BATCH": 0}, "SOLVER.IMS_PER_BATCH is 0"),
    ],
)
def test_wrong_options_name_the_key(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as info:
        build_train_loader(make_cfg(**change))
    assert "\n" not in str(info.value)


def test_wrong_test_options() -> None:
    with pytest.raises(ConfigError, match="TEST.IMS_PER_BATCH is 0"):
        build_test_loader(make_cfg(TEST__IMS_PER_BATCH=0), VAL)
    with pytest.raises(ConfigError, match="no data set 'nothing' is registered"):
        build_test_loader(make_cfg(), "nothing")


def test_max_objects_needs_object_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "CLEVR_v1.0/images/test"
    folder.mkdir(parents=True)
    (folder / "CLEVR_test_000000.png").touch()
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(ConfigError, match="clevr_v1_test does not say how many objects"):
        build_test_loader(make_cfg(DATASETS__MAX_OBJECTS=6), "clevr_v1_test")


def test_no_image_is_left() -> None:
    name = "slotseg_test_nothing"
    DatasetCatalog.register(name, list)
    try:
        with pytest.raises(DatasetError, match=f"data set {name}: no images"):
            build_test_loader(make_cfg(), name)
    finally:
        DatasetCatalog.remove(name)


@pytest.fixture
def own_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("num_workers", [0, 2])
def test_bad_files_surface_in_one_line(
    own_root: Path, scene_folder_factory: Callable[..., Path], num_workers: int
) -> None:
    folder = scene_folder_factory(own_root / "clevr_generated/val", 7, (16, 16))
    path = folder / "images/000004.png"
    path.write_bytes(path.read_bytes()[:70])
    loader = build_test_loader(make_cfg(DATALOADER__NUM_WORKERS=num_workers), VAL)
    seen = []
    with pytest.raises(DatasetError) as info:
        for batch in loader:
            seen += batch
    assert len(seen) == 3
    assert str(info.value).startswith(f"{path}: cannot be read as an image")
    assert "\n" not in str(info.value)


class _DieAt:
    """A mapper whose process is killed at one image, as by the system when memory runs out."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.mapper = SceneMapper(True, image_size=(16, 16))

    def __call__(self, entry: dict[str, Any]) -> dict[str, Any]:
        if entry["image_id"].endswith(self.name):
            os.kill(os.getpid(), signal.SIGKILL)
        return self.mapper(entry)


def test_dead_workers_are_told_with_the_files() -> None:
    cfg = make_cfg(DATALOADER__NUM_WORKERS=1)
    loader = build_test_loader(cfg, VAL, mapper=_DieAt("000003"))
    with pytest.raises(DatasetError, match="a data worker process died") as info:
        list(loader)
    assert "000003.png" in str(info.value) or "000000.png" in str(info.value)
    assert "DATALOADER.NUM_WORKERS" in str(info.value) and "\n" not in str(info.value)


class _Broken:
    def __call__(self, entry: dict[str, Any]) -> dict[str, Any]:
        raise KeyError("a defect of the program")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_defects_keep_their_traceback(num_workers: int) -> None:
    cfg = make_cfg(DATALOADER__NUM_WORKERS=num_workers)
    with pytest.raises(KeyError, match="a defect of the program"):
        next(iter(build_train_loader(cfg, mapper=_Broken())))


def test_crowded_and_empty_scenes_are_counted_once(
    own_root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detectron2_logger, "_LOG_COUNTER", detectron2_logger.Counter())
    writer = SceneWriter(str(own_root / "clevr_generated/val"), (16, 16), {})
    for index, number in enumerate([0, 0, 3, 6, 7, 9]):
        mask = np.zeros((16, 16), np.uint8)
        writer.write(index, np.zeros((16, 16, 3), np.uint8), mask, [{}] * number)
    writer.finish(6)
    with caplog.at_level(logging.WARNING, logger="slotseg.data.loader"):
        for _ in range(3):
            build_test_loader(make_cfg(MODEL__SLOTS__NUM_SLOTS=7), VAL)
        # Models without slots have no number of them.
        cfg = make_cfg(MODEL__SLOTS__NUM_SLOTS=6, MODEL__META_ARCHITECTURE="StockPanopticFPN")
        build_test_loader(cfg, VAL)
        # The lower of two levels counts: 3 times 2 sub-slots.
        cfg = make_cfg(MODEL__SLOTS__NUM_SLOTS=3, MODEL__SLOTS__GROUPING__SUB_SLOTS=2,
                       MODEL__SLOTS__GROUPING__NAME="NestedSlotAttention")  # fmt: skip
        build_test_loader(cfg, VAL)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 3
    assert f"{VAL}: 2 of 6 images have no objects" in messages[0]
    # 7 slots hold 6 objects and the background.
    assert f"{VAL}: 2 of 6 images have more objects (up to 9)" in messages[1]
    assert "MODEL.SLOTS.NUM_SLOTS = 7" in messages[1]
    assert "3 of 6 images have more objects" in messages[2]
    assert "MODEL.SLOTS.NUM_SLOTS * GROUPING.SUB_SLOTS = 6" in messages[2]


def test_many_tensors_need_few_files(
    own_root: Path, scene_folder_factory: Callable[..., Path]
) -> None:
    """Each tensor through a shared file of its own would exceed a usual limit of open files."""
    scene_folder_factory(own_root / "clevr_generated/val", 64, (16, 16))
    cfg = make_cfg(DATALOADER__NUM_WORKERS=2, TEST__IMS_PER_BATCH=16)
    batches = list(build_test_loader(cfg, VAL))
    items = list(itertools.chain(*batches))
    assert len(items) == 64
    storages = {item["image"].untyped_storage().data_ptr() for item in items}
    assert len(storages) == 4
    for item in items:
        assert item["image"].untyped_storage().data_ptr() in storages
