"""The check of data sets finds every planted fault in one pass, and nothing in a good set."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from slotseg.classes import Category, set_class_metadata
from slotseg.config import get_cfg
from slotseg.data import register_coco_panoptic
from slotseg.data.check import DatasetReport, check_dataset, format_report
from slotseg.data.datasets.clevr import load_scene_dicts
from slotseg.data.panoptic_mapper import PanopticMapper
from slotseg.errors import ConfigError, DatasetError
from slotseg.panoptic_png import write_id_map

NAME = "check_test_set"
CATEGORIES = (
    Category(7, "road", False, (128, 64, 128)),
    Category(23, "sky", False, (70, 130, 180)),
    Category(26, "car", True, (0, 0, 142)),
)
SIZE = (12, 16)


class PanopticSet:
    """Images of road (id 7, lower half), sky (id 23), and two cars (26001, 26002), some void."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.json = folder / "panoptic.json"
        (folder / "images").mkdir()
        self.content: dict[str, Any] = {
            "images": [],
            "annotations": [],
            "categories": [
                {"id": c.id, "name": c.name, "isthing": int(c.is_thing), "color": c.color}
                for c in CATEGORIES
            ],
        }
        for index in range(count):
            name = f"frame_{index}"
            ids = np.full(SIZE, 23, np.int32)
            ids[6:] = 7
            ids[7:10, 1:5] = 26001
            ids[7:9, 8:11] = 26002
            ids[0, :2] = 0
            Image.fromarray(np.full((*SIZE, 3), index, np.uint8)).save(self.image(index))
            write_id_map(str(self.png(index)), ids)
            self.content["images"].append(
                {"id": name, "file_name": f"{name}.png", "height": SIZE[0], "width": SIZE[1]}
            )
            segments = [
                {"id": i, "category_id": i if i < 1000 else i // 1000, "iscrowd": int(i == 26002)}
                for i in (7, 23, 26001, 26002)
            ]
            for segment in segments:
                segment["area"] = int((ids == segment["id"]).sum())
            self.content["annotations"].append(
                {"image_id": name, "file_name": f"{name}.png", "segments_info": segments}
            )
        self.save()

    def image(self, index: int) -> Path:
        return self.folder / "images" / f"frame_{index}.png"

    def png(self, index: int) -> Path:
        return self.folder / "pngs" / f"frame_{index}.png"

    def ids(self, index: int) -> np.ndarray:
        rgb = np.asarray(Image.open(self.png(index))).astype(np.int32)
        return rgb @ np.array([1, 256, 65536], np.int32)

    def segments(self, index: int) -> list[dict[str, Any]]:
        return self.content["annotations"][index]["segments_info"]

    def save(self) -> None:
        self.json.write_text(json.dumps(self.content))

    def register(self, categories: tuple[Category, ...] | None = CATEGORIES) -> None:
        folders = (str(self.folder / name) for name in ("images", "pngs", "panoptic.json"))
        register_coco_panoptic(NAME, *folders, categories)


@pytest.fixture
def good(tmp_path: Path) -> PanopticSet:
    return PanopticSet(tmp_path, 12)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    DatasetCatalog.pop(NAME, None)
    MetadataCatalog.pop(NAME, None)


def told(report: DatasetReport, breaks: bool | None = None) -> list[str]:
    """file name: what."""
    return [
        f"{Path(fault.file).name}: {fault.what}"
        for fault in report.faults
        if breaks is None or fault.breaks_training == breaks
    ]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_good_set(good, workers):
    good.register()
    report = check_dataset(NAME, workers=workers, progress=False)
    assert report.faults == [] and not report.breaks_training
    assert report.images == 12 and report.void == 24
    by_name = {entry["name"]: entry for entry in report.as_dict()["classes"]}
    assert by_name["road"] == {
        "name": "road",
        "kind": "stuff",
        "images": 12,
        "segments": 12,
        "crowds": 0,
        "pixels": 12 * 78,
    }
    assert by_name["car"]["segments"] == 24 and by_name["car"]["crowds"] == 12
    text = format_report(report)
    assert "sky" in text and text.endswith("training would not break, warnings: 0")
    shares = [float(line.split()[-1]) for line in text.splitlines()[4:8]]
    assert sum(shares) == pytest.approx(100, abs=0.01)


def plant_pixel_faults(good: PanopticSet) -> tuple[list[str], list[str]]:
    """One or two faults in each image but the last; what has to be said about them."""
    ids = good.ids(0)
    ids[0, 0] = 4711
    write_id_map(str(good.png(0)), ids)
    good.segments(1).append({"id": 99, "category_id": 26, "iscrowd": 0, "area": 5})
    good.segments(2)[0]["area"] = 80
    Image.new("RGBA", SIZE[::-1]).save(good.png(3))
    Image.fromarray(good.ids(4).astype(np.uint16)).save(good.png(4))
    good.png(5).unlink()
    good.image(6).write_bytes(good.image(6).read_bytes()[:50])
    Image.new("RGB", (8, 12)).save(good.image(7))
    write_id_map(str(good.png(8)), good.ids(8)[:, :15])
    ids = good.ids(9)
    ids[0, 5] = 24
    write_id_map(str(good.png(9)), ids)
    good.segments(9).append({"id": 24, "category_id": 23, "iscrowd": 1, "area": 1})
    good.segments(9)[1]["area"] -= 1
    write_id_map(str(good.png(10)), np.zeros(SIZE, np.int32))
    good.content["annotations"][10]["segments_info"] = []
    Image.new("RGB", (4, 4)).save(good.folder / "pngs" / "left_over.png")
    good.save()
    breaking = [
        "frame_0.png: segment id 4711 (1 pixels) is not among the listed segments",
        "frame_1.png: segment id 99 is listed, but no pixel has it",
        "frame_3.png: a 8-bit RGBA PNG",
        "frame_4.png: a 16-bit grey PNG",
        "frame_5.png: no such panoptic PNG",
        "frame_6.png: cannot be read as an image",
        "frame_7.png: 12x8 (height x width), but listed as 12x16",
        "frame_7.png: 12x16 (height x width), but its image is 12x8",
        "frame_8.png: 12x15 (height x width), but its image is 12x16",
    ]
    warnings = [
        "frame_2.png: segment id 7 has 78 pixels, but is listed with 80",
        "frame_9.png: stuff class sky has 2 segments (ids 23, 24)",
        "frame_9.png: segment id 24 is stuff and marked as a crowd",
        "frame_10.png: nothing is labelled",
        "left_over.png: a PNG that the JSON does not list",
    ]
    return breaking, warnings


def plant_json_faults(good: PanopticSet) -> list[str]:
    """Faults that keep the set from being loaded at all."""
    good.content["categories"][0]["name"] = "highway"
    good.segments(0)[0]["category_id"] = 123
    good.segments(1)[2]["iscrowd"] = 2
    good.segments(2)[3]["id"] = 26001
    good.content["images"].append(dict(good.content["images"][11]))
    good.content["annotations"][11]["image_id"] = "frame_x"
    good.content["images"].append({"id": "frame_y"})
    good.content["images"].append("frame_z")
    good.save()
    return [
        "panoptic.json: category 7 is highway (stuff), in this set road (stuff)",
        "panoptic.json: image frame_0: segment 7: unknown category 123",
        'panoptic.json: image frame_1: segment 26001: "iscrowd" is 2',
        "panoptic.json: image frame_2: segment 26001: its id is used twice",
        "panoptic.json: image frame_11: its id is listed twice",
        "panoptic.json: image frame_x: it is annotated, but not listed",
        "panoptic.json: image frame_11: it has no annotation",
        "panoptic.json: entry 13 of images",
        "panoptic.json: entry 14 of images",
    ]


def assert_each_once(found: list[str], expected: list[str]) -> None:
    for line in expected:
        assert sum(text.startswith(line) for text in found) == 1, (line, found)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_fault_of_the_files_in_one_pass(good, workers):
    breaking, warnings = plant_pixel_faults(good)
    good.register()
    report = check_dataset(NAME, workers=workers, progress=False)
    assert_each_once(told(report, breaks=True), breaking)
    assert_each_once(told(report, breaks=False), [*warnings, "frame_8.png: segment id 23 has"])
    extra = [text for text in told(report) if text.startswith("frame_8.png: segment id 7 has")]
    assert len(report.faults) == len(breaking) + len(warnings) + 1 + len(extra)
    lines = format_report(report).splitlines()
    assert sum(line.startswith("breaks training: ") for line in lines) == len(breaking)
    assert f"faults that break training: {len(breaking)}, " in lines[-1]


def test_faults_of_the_json_hide_none_of_the_files(good):
    breaking, warnings = plant_pixel_faults(good)
    in_json = plant_json_faults(good)
    good.register()
    report = check_dataset(NAME, progress=False)
    found = told(report)
    assert_each_once(found, [*in_json, *breaking, *warnings])


def test_what_breaks_training_is_what_the_mapper_refuses(good):
    """Verdict and mapper agree image by image."""
    plant_pixel_faults(good)
    good.register()
    report = check_dataset(NAME, progress=False)
    mapper = PanopticMapper(get_cfg(), True)
    refused = set()
    for entry in DatasetCatalog.get(NAME):
        try:
            mapper(entry)
        except DatasetError:
            refused.add(entry["image_id"])
    broken = {Path(fault.file).stem for fault in report.faults if fault.breaks_training}
    assert refused == broken == {f"frame_{i}" for i in (0, 1, 3, 4, 5, 6, 7, 8)}


def test_a_truncated_json_is_one_fault(good):
    good.json.write_bytes(good.json.read_bytes()[:-40])
    good.register()
    report = check_dataset(NAME, progress=False)
    assert len(report.faults) == 1 and report.breaks_training
    assert told(report)[0].startswith("panoptic.json: damaged or cut short")


def test_a_truncated_json_of_a_set_whose_classes_are_in_it_is_one_fault(good):
    good.json.write_bytes(good.json.read_bytes()[:-40])
    good.register(categories=None)
    report = check_dataset(NAME, progress=False)
    assert report.classes == [] and report.breaks_training
    assert len(report.faults) == 1
    assert told(report)[0].startswith("panoptic.json: damaged or cut short")
    assert "faults that break training: 1" in format_report(report)


def test_a_missing_folder_is_one_fault(good):
    good.folder.joinpath("images").rename(good.folder / "moved")
    good.register()
    report = check_dataset(NAME, progress=False)
    assert len(report.faults) == 1 and "is not there" in str(report.faults[0])


def test_classes_from_the_file(good):
    good.register(categories=None)
    report = check_dataset(NAME, progress=False)
    assert report.faults == []
    assert report.classes == [("road", "stuff"), ("sky", "stuff"), ("car", "thing")]


def test_real_coco_panoptic(samples_dir):
    folder = samples_dir / "coco_panoptic_sample/sample_data"
    if not folder.is_dir():
        pytest.skip("no COCO panoptic among the samples")
    paths = ("input_images", "panoptic_examples", "panoptic_examples.json")
    register_coco_panoptic(NAME, *(str(folder / path) for path in paths))
    report = check_dataset(NAME, progress=False)
    content = json.loads((folder / paths[2]).read_text())
    segments = [s for entry in content["annotations"] for s in entry["segments_info"]]
    assert report.faults == [] and report.images == len(content["images"])
    assert report.counts.segments.sum() == len(segments)
    assert report.counts.crowds.sum() == sum(segment["iscrowd"] for segment in segments)
    assert report.counts.pixels.sum() == sum(segment["area"] for segment in segments)


def test_own_dicts_with_a_class_that_is_none(good):
    good.register()
    dicts = DatasetCatalog.get(NAME)
    DatasetCatalog.pop(NAME)
    MetadataCatalog.pop(NAME)
    DatasetCatalog.register(NAME, lambda: dicts)
    MetadataCatalog.get(NAME).evaluator_type = "panoptic"
    set_class_metadata(NAME, CATEGORIES[:2])
    found = told(check_dataset(NAME, progress=False))
    assert len(found) == 24
    assert found[
        0
    ] == "frame_0.png: segment id 26001 has class 2, but the set's Metadata lists " + ("2 classes")


def test_unknown_sets_and_kinds(good):
    with pytest.raises(ConfigError, match="no data set 'check_test_sat' is registered"):
        check_dataset("check_test_sat")
    good.register()
    with pytest.raises(ConfigError, match="-1 workers"):
        check_dataset(NAME, workers=-1)
    MetadataCatalog.pop(NAME)
    MetadataCatalog.get(NAME).evaluator_type = "coco"
    with pytest.raises(ConfigError, match="evaluator_type 'coco'"):
        check_dataset(NAME)


# ---------------------------------------------------------------------------------------------
# Scenes
# ---------------------------------------------------------------------------------------------


@pytest.fixture
def scenes(tmp_path: Path, scene_folder_factory: Callable[..., Path]) -> Path:
    folder = scene_folder_factory(tmp_path / "scenes", 6, (16, 16), (2, 3))
    DatasetCatalog.register(NAME, lambda: load_scene_dicts(str(folder), NAME))
    MetadataCatalog.get(NAME).set(evaluator_type="slots", scene_folder=str(folder))
    return folder


def test_good_scenes(scenes):
    report = check_dataset(NAME, progress=False)
    assert report.faults == [] and report.images == 6
    background, objects = (report.counts.of(number) for number in (0, 1))
    assert background["segments"] == 6 and objects["segments"] >= 12
    assert background["pixels"] + objects["pixels"] == 6 * 256


def test_every_fault_of_scenes_in_one_pass(scenes):
    names = [f"{number:06d}.png" for number in range(6)]
    (scenes / "images" / names[0]).unlink()
    Image.new("RGB", (8, 8)).save(scenes / "images" / names[1])
    Image.new("L", (8, 8)).save(scenes / "masks" / names[2])
    Image.new("RGB", (16, 16)).save(scenes / "masks" / names[3])
    mask = np.asarray(Image.open(scenes / "masks" / names[4])).copy()
    mask[0, :3] = 9
    Image.fromarray(mask).save(scenes / "masks" / names[4])
    Image.new("L", (16, 16), 255).save(scenes / "masks" / names[5])
    report = check_dataset(NAME, progress=False)
    assert_each_once(
        told(report, breaks=True),
        [
            f"{names[0]}: no such file",
            f"{names[1]}: 8x8 (height x width), but listed as 16x16",
            f"{names[2]}: 8x8 (height x width), but listed as 16x16",
            f"{names[3]}: a mask of Pillow mode 'RGB'",
            f"{names[4]}: it holds object 9 (3 pixels), but the scene lists only",
        ],
    )
    assert [text[:10] for text in told(report, breaks=False)] == [names[2], names[5]]
    assert report.void == 256


def test_all_faults_of_a_scene_list(scenes):
    index = scenes / "scenes.json"
    content = json.loads(index.read_text())
    content["scenes"][1]["image"] = "/etc/passwd"
    del content["scenes"][4]["mask"]
    content["source"] = None
    index.write_text(json.dumps(content))
    assert_each_once(
        told(check_dataset(NAME, progress=False), breaks=True),
        [
            'scenes.json: "source" is missing',
            "scenes.json: scene 1: \"image\" is '/etc/passwd'",
            'scenes.json: scene 4: "mask" is missing',
        ],
    )
    index.write_text("{")
    found = told(check_dataset(NAME, progress=False))
    assert len(found) == 1 and "damaged or cut short" in found[0]


# ---------------------------------------------------------------------------------------------
# The tool
# ---------------------------------------------------------------------------------------------


def run_tool(project_root: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Exit status of the tool, run in this process."""
    path = str(project_root / "tools" / "check_dataset.py")
    monkeypatch.setattr(sys, "argv", [path, *arguments])
    with pytest.raises(SystemExit) as info:
        runpy.run_path(path, run_name="__main__")
    return info.value.code


def test_the_tool_prints_writes_and_exits(
    tmp_path, project_root, scene_folder_factory, monkeypatch, capsys
):
    """From another folder, on one good set and one that is missing."""
    scene_folder_factory(tmp_path / "clevr_generated" / "val", 3, (16, 16), (1, 2))
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    names = ("clevr_generated_val", "clevr_generated_train")
    assert run_tool(project_root, monkeypatch, *names, "--output", "faults.json") == 1
    printed = capsys.readouterr().out
    assert "clevr_generated_val: training would not break, warnings: 0" in printed
    assert "clevr_generated_train: faults that break training: 1" in printed
    written = json.loads((tmp_path / "faults.json").read_text())
    assert [entry["breaks_training"] for entry in written] == [False, True]
    assert "not found" in written[1]["faults"][0]["fault"]
    assert run_tool(project_root, monkeypatch, names[0], "--workers", "1") == 0
    assert run_tool(project_root, monkeypatch, "nonsense") == 1
    assert capsys.readouterr().err.startswith("error: no data set 'nonsense'")
