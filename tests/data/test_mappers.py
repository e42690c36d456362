"""The loaders read every kind of set with its own mapper, and refuse mixtures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import logger as detectron2_logger
from PIL import Image

from slotseg.config import get_cfg
from slotseg.data.datasets.clevr import load_scene_dicts
from slotseg.data.loader import build_test_loader, build_train_loader
from slotseg.data.mapper import SceneMapper
from slotseg.data.mappers import build_mapper
from slotseg.data.panoptic_mapper import PanopticMapper
from slotseg.errors import ConfigError, DatasetError
from slotseg.panoptic_png import write_id_map

SCENES, STREETS, OTHER = "mappers_test_scenes", "mappers_test_streets", "mappers_test_other"


def panoptic_dicts(folder: Path, counts: list[int]) -> list[dict[str, Any]]:
    """Images of 8x8 with so many things (one row each) on one stuff segment of the rest."""
    dicts = []
    for index, things in enumerate(counts):
        ids = np.full((8, 8), 100, np.int32)
        ids[:things] = np.arange(1, things + 1)[:, None]
        image = np.dstack([ids, ids * 0 + index, ids * 0]).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{index}.png")
        write_id_map(str(folder / f"{index}_ids.png"), ids)
        segments = [
            {"id": i, "category_id": 1, "isthing": True, "iscrowd": 0, "area": 8}
            for i in range(1, things + 1)
        ]
        segments.append(
            {"id": 100, "category_id": 0, "isthing": False, "iscrowd": 0, "area": 64 - 8 * things}
        )
        dicts.append(
            {
                "file_name": str(folder / f"{index}.png"),
                "image_id": str(index),
                "height": 8,
                "width": 8,
                "pan_seg_file_name": str(folder / f"{index}_ids.png"),
                "segments_info": segments,
            }
        )
    return dicts


@pytest.fixture(autouse=True)
def _sets(tmp_path: Path, scene_folder_factory: Callable[..., Path]) -> Iterator[None]:
    scenes = scene_folder_factory(tmp_path / "scenes", 3, (8, 8), (1, 2))
    dicts = panoptic_dicts(tmp_path, [0, 1, 2, 3, 4])
    DatasetCatalog.register(SCENES, lambda: load_scene_dicts(str(scenes), SCENES))
    DatasetCatalog.register(STREETS, lambda: dicts)
    DatasetCatalog.register(OTHER, lambda: dicts)
    MetadataCatalog.get(STREETS).evaluator_type = "panoptic"
    MetadataCatalog.get(OTHER).evaluator_type = "coco"
    # Every test hears every warning.
    detectron2_logger._LOG_COUNTER.clear()
    yield
    for name in (SCENES, STREETS, OTHER):
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)


def make_cfg(*sets: str, **changes: Any):
    values = {
        "INPUT.IMAGE_SIZE": (8, 8),
        "DATASETS.TRAIN": sets,
        "SOLVER.IMS_PER_BATCH": 2,
        "DATALOADER.NUM_WORKERS": 0,
        **{key.replace("__", "."): value for key, value in changes.items()},
    }
    return get_cfg(None, [item for pair in values.items() for item in pair])


def test_each_kind_has_its_mapper():
    cfg = make_cfg(SCENES)
    assert isinstance(build_mapper(cfg, True, [SCENES]), SceneMapper)
    assert isinstance(build_mapper(cfg, True, [STREETS, STREETS]), PanopticMapper)


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_of_panoptic_sets(workers):
    cfg = make_cfg(STREETS, DATALOADER__NUM_WORKERS=workers)
    batch = next(iter(build_train_loader(cfg)))
    assert len(batch) == 2
    for item in batch:
        things = len(item["segment_category"]) - 1
        ids = np.array([*range(1, things + 1), 100])[item["segment_map"].numpy()]
        assert np.array_equal(ids, item["image"][0].numpy())
    seen = [item for batch in build_test_loader(cfg, STREETS) for item in batch]
    assert [item["image_id"] for item in seen] == ["0", "1", "2", "3", "4"]
    assert all(len(item["segments_info"]) == len(item["segment_category"]) for item in seen)


def test_samples_do_not_depend_on_workers_or_on_where_one_starts():
    changes = {
        "INPUT__RESIZE": "scale_jitter",
        "INPUT__RANDOM_FLIP": "horizontal",
        "INPUT__COLOR_JITTER__HUE": 0.4,
    }
    alone = iter(build_train_loader(make_cfg(STREETS, **changes)))
    batches = [next(alone) for _ in range(5)]
    helped = make_cfg(STREETS, DATALOADER__NUM_WORKERS=2, **changes)
    for first in (0, 3):
        loader = iter(build_train_loader(helped, start_iter=first))
        for batch in batches[first:]:
            for one, other in zip(batch, next(loader), strict=True):
                assert one["image_id"] == other["image_id"]
                for key in ("image", "segment_map", "segment_category", "segment_is_object"):
                    assert torch.equal(one[key], other[key]) and one[key].dtype == other[key].dtype


def test_scenes_are_read_as_before():
    batch = next(iter(build_train_loader(make_cfg(SCENES))))
    assert set(batch[0]) == {
        *("file_name", "image_id", "height", "width"),
        *("image", "segment_map", "segment_is_object"),
    }


def test_mixed_and_unknown_kinds():
    with pytest.raises(ConfigError, match=rf"mixes .*{SCENES} \(slots\), {STREETS} \(panoptic\)"):
        build_train_loader(make_cfg(SCENES, STREETS))
    with pytest.raises(ConfigError, match=f"{OTHER} has evaluator_type 'coco', expected one of"):
        build_test_loader(make_cfg(SCENES), OTHER)
    # A mapper of one's own reads what it likes.
    assert next(iter(build_test_loader(make_cfg(SCENES), OTHER, mapper=lambda entry: entry)))


def test_scene_folders_take_no_other_resize():
    for key, value in (("INPUT__RESIZE", "shortest_edge"), ("INPUT__CROP.ENABLED", True)):
        with pytest.raises(ConfigError, match="scene folders take only"):
            build_mapper(make_cfg(SCENES, **{key: value}), False, [SCENES])


def test_scenes_can_change_their_colours():
    cfg = make_cfg(SCENES, INPUT__COLOR_JITTER__BRIGHTNESS=0.5)
    entry = DatasetCatalog.get(SCENES)[0]
    plain = build_mapper(cfg, False, [SCENES])(entry)["image"]
    changed = [build_mapper(cfg, True, [SCENES])(entry)["image"] for _ in range(4)]
    assert len({image.float().mean().item() for image in [plain, *changed]}) == 5


def test_max_objects_counts_things():
    cfg = make_cfg(STREETS, DATASETS__MAX_OBJECTS=2)
    seen = [item["image_id"] for batch in build_test_loader(cfg, STREETS) for item in batch]
    assert seen == ["0", "1", "2"]
    DatasetCatalog.get(STREETS)[3]["segments_info"][0]["iscrowd"] = 1
    seen = [item["image_id"] for batch in build_test_loader(cfg, STREETS) for item in batch]
    assert seen == ["0", "1", "2", "3"]


def warnings(caplog: pytest.LogCaptureFixture, cfg: Any) -> list[str]:
    with caplog.at_level(logging.WARNING, logger="slotseg.data.loader"):
        build_train_loader(cfg)
    return [record.getMessage() for record in caplog.records]


def test_more_segments_than_slots(caplog):
    cfg = make_cfg(STREETS, MODEL__SLOTS__NUM_SLOTS=3)
    told = warnings(caplog, cfg)
    assert len(told) == 1
    assert "2 of 5 images have more segments (up to 5) than MODEL.SLOTS.NUM_SLOTS = 3" in told[0]


def test_other_models_need_no_slots(caplog):
    cfg = make_cfg(STREETS, MODEL__SLOTS__NUM_SLOTS=3, MODEL__META_ARCHITECTURE="PanopticFPN")
    assert warnings(caplog, cfg) == []


def test_images_without_segments(caplog):
    for entry in DatasetCatalog.get(STREETS)[:2]:
        for segment in entry["segments_info"]:
            segment["iscrowd"] = 1
    told = warnings(caplog, make_cfg(STREETS))
    assert len(told) == 1 and "2 of 5 images have no segment but crowds" in told[0]


def test_errors_of_workers_name_the_file():
    DatasetCatalog.get(STREETS)[0]["segments_info"].pop()
    cfg = make_cfg(STREETS, DATALOADER__NUM_WORKERS=1)
    with pytest.raises(DatasetError, match="0_ids.png: segment id 100"):
        list(build_test_loader(cfg, STREETS))


def test_sets_of_other_classes_are_not_mixed():
    cfg = get_cfg()
    same = ["cityscapes_generated_train", "bdd100k_generated19_train", "kitti_generated_train"]
    assert isinstance(build_mapper(cfg, True, same), PanopticMapper)
    for other, told in (("bdd100k_generated_train", "40"), ("kitti_step_generated_train", "2 thi")):
        with pytest.raises(ConfigError, match=f"{other} .*{told}.* has other classes than citys"):
            build_mapper(cfg, True, [same[0], other])
