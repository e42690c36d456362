"""The native trees, read back with nothing but OpenCV and json."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from slotseg.data.datasets.bdd100k import CATEGORIES
from slotseg.data.synthetic.street_trees import TREES
from slotseg.data.synthetic.street_trees.cityscapes import describe_polygons
from slotseg.data.synthetic.street_trees.split import write_street_split
from slotseg.data.synthetic.streets import StreetImage, render_street
from slotseg.data.synthetic.streets.labels import HAS_INSTANCES, ID, LABELS, TRAIN_IDS

SIZE = (64, 128)
SCENES = 3
NATIVE_IDS = {category.name: category.id for category in CATEGORIES}


@pytest.fixture(scope="module")
def trees(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("streets")
    for name, tree in TREES.items():
        write_street_split(tree, str(folder / name), "val", SCENES, SIZE, 0, 1, progress=False)
    return {name: folder / name for name in TREES}


def read(path: Path) -> np.ndarray:
    """As stored, with the channels in the order of the file."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None, path
    return image if image.ndim == 2 else image[..., [2, 1, 0, 3][: image.shape[2]]]


def drawn(name: str, index: int) -> StreetImage:
    tree = TREES[name]
    return render_street(tree.stream * 3 + 2, index, SIZE, tree.style)


def test_cityscapes(trees) -> None:
    root = trees["cityscapes"]
    images = sorted(root.glob("leftImg8bit/val/*/*_leftImg8bit.png"))
    assert len(images) == SCENES
    for path in images:
        city, sequence, frame, _ = path.stem.split("_")
        assert city == path.parent.name and len(sequence) == len(frame) == 6
        scene = drawn("cityscapes", int(sequence))
        np.testing.assert_array_equal(read(path), scene.image)
        stem = root / "gtFine" / "val" / city / f"{city}_{sequence}_{frame}_gtFine"
        instance_ids = read(Path(f"{stem}_instanceIds.png"))
        assert instance_ids.dtype == np.uint16
        np.testing.assert_array_equal(instance_ids, scene.instance_ids)
        label_ids = read(Path(f"{stem}_labelIds.png"))
        np.testing.assert_array_equal(label_ids, scene.label_ids)
        np.testing.assert_array_equal(read(Path(f"{stem}_labelTrainIds.png")), TRAIN_IDS[label_ids])
        color = read(Path(f"{stem}_color.png"))
        assert (color[label_ids == ID["road"]] == (128, 64, 128, 255)).all()
        polygons = json.loads(Path(f"{stem}_polygons.json").read_text())
        assert (polygons["imgHeight"], polygons["imgWidth"]) == SIZE
        known = {label.name for label in LABELS} | {
            f"{label.name}group" for label in LABELS if label.has_instances
        }
        assert {entry["label"] for entry in polygons["objects"]} <= known


@pytest.mark.parametrize("index", range(4))
def test_polygons_painted_in_order_give_the_labels(index: int) -> None:
    scene = render_street(6, index, (128, 256))
    numbers = {label.name: label.id for label in LABELS}
    numbers |= {f"{name}group": number for name, number in list(numbers.items())}
    painted = np.full(scene.label_ids.shape, 255, np.uint8)
    for entry in describe_polygons(scene.instance_ids)["objects"]:
        cv2.fillPoly(painted, [np.array(entry["polygon"])], numbers[entry["label"]])
    np.testing.assert_array_equal(painted, scene.label_ids)


def test_kitti_2015(trees) -> None:
    folder = trees["kitti2015"] / "validation"
    for index in range(SCENES):
        scene = drawn("kitti2015", index)
        name = f"{index:06d}_10.png"
        np.testing.assert_array_equal(read(folder / "image_2" / name), scene.image)
        semantic, instance = read(folder / "semantic" / name), read(folder / "instance" / name)
        assert semantic.dtype == np.uint8 and instance.dtype == np.uint16
        np.testing.assert_array_equal(instance // 256, semantic)
        np.testing.assert_array_equal(semantic, scene.label_ids)
        numbered = scene.instance_ids >= 1000
        np.testing.assert_array_equal(instance % 256 > 0, numbered)
        np.testing.assert_array_equal(
            instance[numbered] % 256, scene.instance_ids[numbered] % 1000 + 1
        )


def test_kitti_2015_has_room_for_255_instances() -> None:
    ids = (26000 + np.arange(300)).reshape(1, 300).astype(np.int32)
    scene = StreetImage(
        np.zeros((1, 300, 3), np.uint8), np.full((1, 300), 26, np.uint8), ids, frozenset()
    )
    stored = cv2.imdecode(
        np.frombuffer(TREES["kitti2015"].encode("val", 0, scene)[2], np.uint8), cv2.IMREAD_UNCHANGED
    )
    assert (stored // 256 == 26).all()
    assert (stored[0, :255] % 256 == np.arange(1, 256)).all() and (stored[0, 255:] % 256 == 0).all()


def test_kitti_panoptic(trees) -> None:
    folder = trees["kitti_panoptic"] / "validation"
    for index in range(SCENES):
        scene = drawn("kitti_panoptic", index)
        np.testing.assert_array_equal(read(folder / "images" / f"{index:06d}.png"), scene.image)
        rgb = read(folder / "annotations" / f"{index:06d}.png").astype(int)
        ids = rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]
        np.testing.assert_array_equal(ids, scene.instance_ids)


def test_kitti_step(trees) -> None:
    for index in range(SCENES):
        scene = drawn("kitti_step", index)
        name = f"val/0000/{index:06d}.png"
        np.testing.assert_array_equal(read(trees["kitti_step"] / "images" / name), scene.image)
        rgb = read(trees["kitti_step"] / "panoptic_maps" / name).astype(int)
        np.testing.assert_array_equal(rgb[..., 0], TRAIN_IDS[scene.label_ids])
        number = 256 * rgb[..., 1] + rgb[..., 2]
        counted = np.isin(scene.label_ids, (ID["person"], ID["car"]))
        counted &= scene.instance_ids >= 1000
        np.testing.assert_array_equal(number > 0, counted)


def test_frame_numbers_of_kitti_step_recur() -> None:
    tree = TREES["kitti_step"]
    first, second = tree.scene_files("train", 3)[0], tree.scene_files("train", 13)[0]
    assert first != second and Path(first).name == Path(second).name


def test_bdd100k(trees) -> None:
    root = trees["bdd100k"]
    frames = json.loads((root / "labels/pan_seg/polygons/pan_seg_val.json").read_text())
    assert len(frames) == SCENES and not (root / "frames").exists()
    for index, frame in enumerate(frames):
        scene = drawn("bdd100k", index)
        image = read(root / "images/10k/val" / frame["name"])
        assert np.abs(image.astype(int) - scene.image).mean() < 12  # JPEG
        rgba = read(root / f"labels/pan_seg/bitmasks/val/{Path(frame['name']).stem}.png")
        assert rgba.shape == (*SIZE, 4) and rgba.dtype == np.uint8
        expected = [NATIVE_IDS.get(LABELS[v].name, 0) for v in scene.label_ids.ravel()]
        np.testing.assert_array_equal(rgba[..., 0].ravel(), expected)
        number = 256 * rgba[..., 2].astype(int) + rgba[..., 3]
        labels = {int(label["id"]): label for label in frame["labels"]}
        assert set(np.unique(number)) - {0} == set(labels)
        for value, label in labels.items():
            mask = number == value
            # One segment is one class, one instance id and one set of attributes.
            assert len(np.unique(rgba[mask], axis=0)) == 1
            assert len(np.unique(scene.instance_ids[mask])) == 1
            assert rgba[mask][0, 0] == NATIVE_IDS[label["category"]]
            flags = int(rgba[mask][0, 1])
            given = label["attributes"]
            assert flags == 8 * given["truncated"] + 4 * given["occluded"] + 2 * given["crowd"]
            instance = int(scene.instance_ids[mask][0])
            assert given["crowd"] == (instance < 1000 and bool(HAS_INSTANCES[instance]))
            rows, columns = np.nonzero(mask)
            corners = np.concatenate([np.array(p["vertices"]) for p in label["poly2d"]])
            assert corners[:, 0].min() == columns.min() and corners[:, 1].max() == rows.max()
            assert all(len(p["types"]) == len(p["vertices"]) for p in label["poly2d"])
