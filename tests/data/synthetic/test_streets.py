from __future__ import annotations

import numpy as np
import pytest

from slotseg.data.synthetic.streets import (
    CAMERA_STYLES,
    MIN_INSTANCE_PIXELS,
    render,
    render_street,
    sample_street,
)
from slotseg.data.synthetic.streets.camera import StreetCamera
from slotseg.data.synthetic.streets.labels import (
    EVALUATED,
    HAS_INSTANCES,
    ID,
    LABELS,
    THINGS,
    TRAIN_IDS,
)
from slotseg.data.synthetic.streets.order import painting_order
from slotseg.data.synthetic.streets.scene import Face, StreetScene
from slotseg.errors import ConfigError

SIZE = (96, 192)


@pytest.fixture(scope="module")
def scenes():
    return [render_street(1, index, SIZE) for index in range(60)]


def labels_of(instance_ids: np.ndarray) -> np.ndarray:
    return np.where(instance_ids < 1000, instance_ids, instance_ids // 1000)


def test_labels_are_those_of_cityscapes() -> None:
    assert [label.id for label in LABELS] == list(range(34))
    assert [label.train_id for label in EVALUATED] == list(range(19))
    assert [label.name for label in THINGS] == [
        "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    ]  # fmt: skip
    assert (TRAIN_IDS == 255).sum() == 15


def test_same_seed_and_index_give_the_same_bytes() -> None:
    first = render_street(3, 7, SIZE)
    render_street(3, 8, SIZE)
    again = render_street(3, 7, SIZE)
    assert first.image.tobytes() == again.image.tobytes()
    assert first.instance_ids.tobytes() == again.instance_ids.tobytes()
    assert first.occluded == again.occluded


def test_other_index_seed_or_style_gives_another_scene() -> None:
    keys = [(0, 1), (0, 2), (1, 1)]
    images = {render_street(*key, SIZE).image.tobytes() for key in keys}
    images |= {render_street(0, 1, SIZE, style).image.tobytes() for style in CAMERA_STYLES}
    assert len(images) == 5


@pytest.mark.parametrize("size", [(64, 128), (61, 207), (256, 512)])
@pytest.mark.parametrize("supersampling", [1, 2, 3])
def test_any_size(size: tuple[int, int], supersampling: int) -> None:
    scene = render_street(2, 4, size, supersampling=supersampling)
    assert scene.image.shape == (*size, 3) and scene.image.dtype == np.uint8
    assert scene.label_ids.shape == size and scene.label_ids.dtype == np.uint8
    assert scene.instance_ids.shape == size and scene.instance_ids.dtype == np.int32


def test_a_scene_is_the_same_at_every_size() -> None:
    """A coarse picture's truth is what the fine one's shows at the same places."""
    for index in range(4):
        coarse = render_street(4, index, (128, 256)).label_ids
        fine = render_street(4, index, (512, 1024)).label_ids[2::4, 2::4]
        assert (coarse == fine).mean() > 0.93


def test_ids_agree_with_classes(scenes) -> None:
    for scene in scenes:
        np.testing.assert_array_equal(labels_of(scene.instance_ids), scene.label_ids)
        for value in np.unique(scene.instance_ids[scene.instance_ids >= 1000]):
            assert HAS_INSTANCES[value // 1000]
            assert (scene.instance_ids == value).sum() >= MIN_INSTANCE_PIXELS
        # Numbers have no gaps.
        for label in THINGS:
            found = np.unique(scene.instance_ids[scene.instance_ids // 1000 == label.id])
            np.testing.assert_array_equal(found, label.id * 1000 + np.arange(len(found)))


def test_every_class_void_and_crowd_occur_as_often_as_they_should(scenes) -> None:
    pixels = sum(np.bincount(scene.label_ids.ravel(), minlength=34) for scene in scenes)
    share = pixels / pixels.sum()
    assert all(share[label.id] > 0 for label in EVALUATED)
    large = [ID[name] for name in ("road", "building", "vegetation")]
    assert all(share[label] > 0.08 for label in large)
    rare = [ID[name] for name in ("train", "bus", "motorcycle", "wall", "fence", "traffic light")]
    assert all(share[label] < 0.03 for label in rare)
    # Like the real set: about a ninth of the pixels is not evaluated.
    assert 0.04 < share[TRAIN_IDS == 255].sum() < 0.25
    for name in ("ego vehicle", "rectification border", "static", "dynamic"):
        assert share[ID[name]] > 0
    crowd = {int(v) for s in scenes for v in np.unique(s.instance_ids) if v < 1000}
    assert {ID["person"], ID["car"], ID["bicycle"]} <= crowd


def test_riders_sit_on_their_own_machines(scenes) -> None:
    touching = 0
    for scene in scenes:
        two_wheelers = np.isin(scene.label_ids, (ID["bicycle"], ID["motorcycle"]))
        rider = scene.label_ids == ID["rider"]
        touching += bool((rider[:-1] & two_wheelers[1:]).any())
    assert touching >= 5


def test_sizes_of_instances_vary(scenes) -> None:
    areas = np.concatenate(
        [np.unique(s.instance_ids[s.instance_ids >= 1000], return_counts=True)[1] for s in scenes]
    )
    assert areas.min() < 15 and areas.max() > 1500
    assert len(areas) / len(scenes) > 5


def test_colours_do_not_give_classes_away(scenes) -> None:
    """Cars, people and buildings come in dark, light, reddish and bluish alike."""
    for name in ("car", "person", "building"):
        colors = np.concatenate([s.image[s.label_ids == ID[name]] for s in scenes]).astype(int)
        red_minus_blue = colors[:, 0] - colors[:, 2]
        assert np.percentile(colors.mean(axis=1), 95) - np.percentile(colors.mean(axis=1), 5) > 90
        assert np.percentile(red_minus_blue, 97) > 20 and np.percentile(red_minus_blue, 3) < -5


def square(z: float, half: float, t: float = 0.0) -> np.ndarray:
    corners = [(t - half, 0.5), (t + half, 0.5), (t + half, 2.5), (t - half, 2.5)]
    return np.array([[(x, y, z) for x, y in corners]])


def plain_scene() -> StreetScene:
    scene = sample_street(0, 0)
    camera = StreetCamera(1.5, 0.0, 0.0, 1.0, 0.5, 0.0, 0.0)
    return StreetScene(camera, scene.light, scene.weather, 5)


def test_only_what_is_visible_is_labelled() -> None:
    scene = plain_scene()
    scene.add(ID["car"], [Face(square(10, 1), (1, 0, 0))], (-1, 1, 9.5, 10.5))
    scene.add(ID["bus"], [Face(square(20, 1), (0, 1, 0))], (-1, 1, 19.5, 20.5))
    scene.add(ID["person"], [Face(square(20, 1, 3.5), (0, 1, 0))], (2.5, 4.5, 19.5, 20.5))
    drawn = render(scene, (128, 256))
    # The bus is smaller and wholly behind the car.
    assert set(np.unique(drawn.label_ids)) == {ID["sky"], ID["car"], ID["person"]}
    # A square of 2 m at 10 m, with a focal length of 256 pixels.
    assert (drawn.label_ids == ID["car"]).sum() == pytest.approx(51.2**2, rel=0.05)
    assert drawn.occluded.isdisjoint({26000, 24000})
    rows, columns = np.nonzero(drawn.label_ids == ID["car"])
    assert columns.mean() == pytest.approx(127.5, abs=0.6)
    assert rows.mean() == pytest.approx(63.5, abs=0.6)


def test_something_nearer_occludes_and_picture_and_truth_agree() -> None:
    scene = plain_scene()
    scene.add(ID["car"], [Face(square(10, 2), (1, 0, 0))], (-2, 2, 9.5, 10.5))
    scene.add(ID["pole"], [Face(square(5, 0.2), (0, 0, 1))], (-0.2, 0.2, 4.9, 5.1))
    drawn = render(scene, (128, 256))
    assert 26000 in drawn.occluded
    # The pole cuts the car into two visible parts of one instance.
    row = drawn.instance_ids[64]
    assert row[120] == row[136] == ID["pole"] and row[100] == row[155] == 26000
    car = drawn.image[drawn.instance_ids == 26000].astype(float)
    pole = drawn.image[drawn.label_ids == ID["pole"]].astype(float)
    assert np.median(car[:, 0] - car[:, 2]) > 20 > -20 > np.median(pole[:, 0] - pole[:, 2])


def test_small_remains_of_an_instance_are_crowd() -> None:
    scene = plain_scene()
    scene.add(ID["car"], [Face(square(400, 0.4), (1, 0, 0))], (-1, 1, 399, 401))
    scene.add(ID["car"], [Face(square(30, 1, 4), (1, 0, 0))], (3, 5, 29, 31))
    drawn = render(scene, (128, 256))
    assert set(np.unique(drawn.instance_ids)) == {ID["sky"], 26, 26000}
    assert (drawn.instance_ids == 26).sum() < MIN_INSTANCE_PIXELS


def test_faces_behind_and_across_the_near_plane() -> None:
    scene = plain_scene()
    wall = np.array([[(2, 0, -5), (2, 0, 30), (2, 3, 30), (2, 3, -5)]], float)
    scene.add(ID["wall"], [Face(wall, (1, 1, 1))], (2, 2, -5, 30))
    scene.add(ID["car"], [Face(square(-4, 1), (1, 0, 0))], (-1, 1, -5, -3))
    drawn = render(scene, (128, 256))
    assert set(np.unique(drawn.label_ids)) == {ID["sky"], ID["wall"]}
    assert (drawn.label_ids[:, -1] == ID["wall"]).mean() > 0.9
    assert (drawn.label_ids[:, :128] == ID["sky"]).all()


def test_painting_order_far_to_near_and_outside_to_inside() -> None:
    boxes = np.array(
        [
            (-1.0, 1.0, 5, 9),  # 0: nearest
            (-1.0, 1.0, 40, 44),  # 1: farthest ahead
            (6.0, 16.0, 0, 60),  # 2: a long house on the right
            (3.0, 5.0, 20, 30),  # 3: a bus beside it
            (5.2, 5.5, 24, 24.5),  # 4: somebody between the bus and the house
        ]
    )
    order = painting_order(boxes, 0.0)
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert order.index(1) < order.index(0)
    assert order.index(2) < order.index(4) < order.index(3)
    assert painting_order(np.zeros((0, 4)), 0.0) == []


@pytest.mark.parametrize(
    "change",
    [
        {"seed": -1},
        {"index": -1},
        {"size": (8, 64)},
        {"style": "mars"},
        {"supersampling": 0},
        {"supersampling": 5},
    ],
    ids=["seed", "index", "size", "style", "no-samples", "many-samples"],
)
def test_bad_arguments_are_named_in_one_line(change: dict) -> None:
    with pytest.raises(ConfigError) as caught:
        render_street(**{"seed": 0, "index": 0, "size": SIZE, **change})
    assert "\n" not in str(caught.value)
