"""The one reader of panoptic sets: what it gives, and what it says about damaged JSON files."""

from __future__ import annotations

import copy
import json
import re

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from hypothesis import given
from hypothesis import strategies as st

from slotseg.classes import Category, class_set
from slotseg.data import load_coco_panoptic, register_coco_panoptic
from slotseg.data.datasets.coco_panoptic import categories_of, find_faults
from slotseg.errors import DatasetError

CATEGORIES = [
    Category(7, "road", False, (128, 64, 128)),
    Category(26, "car", True, (0, 0, 142)),
]

CONTENT = {
    "images": [
        {"id": 5, "file_name": "a.jpg", "height": 4, "width": 6},
        {"id": 6, "file_name": "b.jpg", "height": 3, "width": 2},
    ],
    "annotations": [
        # Not in the order of the images.
        {"image_id": 6, "file_name": "b.png", "segments_info": []},
        {
            "image_id": 5,
            "file_name": "a.png",
            "segments_info": [
                {"id": 26001, "category_id": 26, "area": 8, "iscrowd": 1},
                {"id": 7, "category_id": 7, "area": 16.0},
            ],
        },
    ],
    "categories": [
        {"id": 7, "name": "road", "isthing": 0, "color": [1, 2, 3]},
        {"id": 26, "name": "car", "isthing": 1},
    ],
}


@pytest.fixture
def content():
    return copy.deepcopy(CONTENT)


def write(folder, content) -> str:
    for name in ("images", "labels"):
        (folder / name).mkdir(exist_ok=True)
    path = folder / "panoptic.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def load(folder, content, categories=CATEGORIES):
    path = write(folder, content)
    return load_coco_panoptic(str(folder / "images"), str(folder / "labels"), path, categories)


@pytest.fixture
def free_name():
    name = "coco_panoptic_test_set"
    yield name
    if name in DatasetCatalog:
        DatasetCatalog.remove(name)
    MetadataCatalog.pop(name, None)


def test_dicts_hold_contiguous_classes_and_the_order_of_the_images(tmp_path, content):
    first, second = load(tmp_path, content)
    assert first == {
        "file_name": str(tmp_path / "images" / "a.jpg"),
        "image_id": "5",
        "height": 4,
        "width": 6,
        "pan_seg_file_name": str(tmp_path / "labels" / "a.png"),
        "segments_info": [
            {"id": 26001, "category_id": 1, "isthing": True, "iscrowd": 1, "area": 8},
            {"id": 7, "category_id": 0, "isthing": False, "iscrowd": 0, "area": 16},
        ],
    }
    assert second["image_id"] == "6"
    assert second["segments_info"] == []


def test_contiguous_numbers_follow_the_given_classes_not_the_file(tmp_path, content):
    first, _ = load(tmp_path, content, CATEGORIES[::-1])
    assert [segment["category_id"] for segment in first["segments_info"]] == [0, 1]


def test_registering_touches_no_file_and_gives_the_classes(tmp_path, free_name, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "not there"))
    register_coco_panoptic(free_name, "own/images", "own/labels", "own/p.json", CATEGORIES)
    classes = class_set(free_name)
    assert classes.names == ("road", "car")
    assert classes.things == (1,)
    metadata = MetadataCatalog.get(free_name)
    assert metadata.evaluator_type == "panoptic"
    assert metadata.panoptic_json == "own/p.json"
    with pytest.raises(DatasetError, match=r"own/p\.json is not there; check the paths"):
        DatasetCatalog.get(free_name)


def test_relative_paths_lie_under_the_root_at_the_time_of_use(
    tmp_path, free_name, monkeypatch, content
):
    register_coco_panoptic(free_name, "images", "labels", "panoptic.json", CATEGORIES)
    write(tmp_path, content)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    assert DatasetCatalog.get(free_name)[0]["file_name"] == str(tmp_path / "images" / "a.jpg")


def test_classes_of_the_file_are_read_when_the_set_is_used(tmp_path, free_name, content):
    path = write(tmp_path, content)
    register_coco_panoptic(free_name, str(tmp_path / "images"), str(tmp_path / "labels"), path)
    assert "stuff_classes" not in MetadataCatalog.get(free_name).as_dict()
    assert len(DatasetCatalog.get(free_name)) == 2
    assert class_set(free_name).dataset_ids == (7, 26)
    assert MetadataCatalog.get(free_name).stuff_colors[0] == (1, 2, 3)
    assert len(DatasetCatalog.get(free_name)) == 2  # Metadata may be set to equal values again


def test_a_name_is_registered_once(free_name):
    register_coco_panoptic(free_name, "i", "p", "j", CATEGORIES)
    with pytest.raises(DatasetError, match="registered already"):
        register_coco_panoptic(free_name, "i", "p", "j", CATEGORIES)


def test_missing_folders_are_told_with_what_to_do(tmp_path, free_name, content):
    path = write(tmp_path, content)
    (tmp_path / "labels").rmdir()
    register_coco_panoptic(
        free_name,
        str(tmp_path / "images"),
        str(tmp_path / "labels"),
        path,
        CATEGORIES,
        how_to_get="run `make it`",
    )
    with pytest.raises(DatasetError, match="labels is not there; run `make it`"):
        DatasetCatalog.get(free_name)


def test_damaged_files_are_told_in_one_line(tmp_path, content):
    whole = json.dumps(content)
    for text, message in (
        (whole[: len(whole) // 2], "damaged or cut short"),
        ("[1, 2]", 'no list "images"'),
        (json.dumps({**content, "annotations": {}}), 'no list "annotations"'),
        (json.dumps({**content, "images": []}), "it lists no images"),
    ):
        with pytest.raises(DatasetError, match=message) as caught:
            load(tmp_path, text)
        assert str(tmp_path / "panoptic.json") in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(DatasetError, match="cannot be read"):
        load_coco_panoptic("i", "p", str(tmp_path / "none.json"))


def fault(change) -> list[str]:
    content = copy.deepcopy(CONTENT)
    change(content)
    return list(find_faults(content, CATEGORIES))


def segment(content):
    return content["annotations"][1]["segments_info"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["images"].append(c["images"][0]), "image 5: its id is listed twice"),
        (lambda c: c["annotations"].pop(0), "image 6: it has no annotation"),
        (lambda c: c["images"].pop(1), "image 6: it is annotated, but not listed"),
        (
            lambda c: c["annotations"].append({**c["annotations"][0], "file_name": "c.png"}),
            "image 6: it has two annotations",
        ),
        (lambda c: c["annotations"][0].update(file_name="a.png"), "image 5: shares a.png with 6"),
        (lambda c: segment(c).update(category_id=99), "segment 26001: unknown category 99"),
        (lambda c: segment(c).pop("category_id"), "segment 26001: unknown category None"),
        (lambda c: segment(c).update(id=7), "segment 7: its id is used twice"),
        (lambda c: segment(c).update(id=0), "segment 0: ids lie between 1 and 16777215"),
        (lambda c: segment(c).update(id=2**24), "segment 16777216: ids lie between"),
        (lambda c: segment(c).update(id="7"), "a segment without a whole number as id"),
        (lambda c: segment(c).update(iscrowd=2), '"iscrowd" is 2'),
        (lambda c: segment(c).pop("area"), '"area" is None'),
        (lambda c: segment(c).update(area=0), '"area" is 0'),
        (lambda c: c["images"][0].update(height=0), '"height" of image 5 is 0'),
        (lambda c: c["images"][0].pop("id"), 'entry 0 of images: it has no "id"'),
        (lambda c: c["images"][0].update(file_name="../a.jpg"), "expected a path inside"),
        (lambda c: c["annotations"][0].update(file_name="/etc/b.png"), "expected a path inside"),
        (lambda c: c["annotations"][0].pop("segments_info"), "a file for detection"),
        (lambda c: c["categories"][0].update(name="street"), "category 7 is street"),
        (lambda c: c["categories"][1].update(isthing=0), "category 26 is car (stuff)"),
        (lambda c: c["categories"][1].update(id=13), "category 13 (car) is not one of this set"),
        (lambda c: c["categories"].append("x"), "entry 2 of categories"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_fault_is_found_with_its_id(change, message):
    faults = fault(change)
    assert any(message in line for line in faults), faults
    assert all("\n" not in line for line in faults)


def test_a_sound_file_has_no_faults():
    assert fault(lambda content: None) == []


def test_the_first_fault_is_raised_and_the_others_are_counted(tmp_path, content):
    segment(content)["category_id"] = 99
    del content["annotations"][0]
    with pytest.raises(
        DatasetError, match=r"json: image 5: segment 26001: unknown category 99.*\(and 1 more"
    ):
        load(tmp_path, content)


def test_colors_are_made_for_classes_without(content):
    content["categories"] = [
        {"id": number, "name": f"class {number}", "isthing": number % 2} for number in range(1, 200)
    ]
    colors = [category.color for category in categories_of(content, "file")]
    assert len(set(colors)) == len(colors)
    assert all(0 <= value < 256 for color in colors for value in color)


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([], "lists no categories"),
        ([{"id": 1, "name": "a"}], "expected id, name and isthing"),
        ([{"id": 1, "name": "a", "isthing": 1}] * 2, "category id 1 is listed twice"),
    ],
    ids=["none", "no isthing", "twice"],
)
def test_classes_that_cannot_be_are_refused(categories, message):
    with pytest.raises(DatasetError, match=f"^file.json: .*{message}"):
        categories_of({"categories": categories}, "file.json")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@given(
    place=st.sampled_from(
        [
            ("images", 0),
            ("images", 0, "id"),
            ("images", 0, "file_name"),
            ("images", 1, "width"),
            ("annotations", 1),
            ("annotations", 1, "image_id"),
            ("annotations", 1, "segments_info"),
            ("annotations", 1, "segments_info", 0),
            ("annotations", 1, "segments_info", 0, "id"),
            ("annotations", 1, "segments_info", 0, "category_id"),
            ("annotations", 1, "segments_info", 0, "area"),
            ("annotations", 1, "segments_info", 0, "iscrowd"),
            ("categories", 0),
            ("categories", 0, "isthing"),
        ]
    ),
    value=JSON_VALUES,
)
def test_whatever_a_file_holds_is_a_fault_or_fine_but_never_a_crash(place, value):
    content = copy.deepcopy(CONTENT)
    *way, last = place
    holder = content
    for key in way:
        holder = holder[key]
    holder[last] = value
    faults = list(find_faults(content, CATEGORIES))
    assert all(isinstance(line, str) for line in faults)
    if place[-1] == 0 and not isinstance(value, dict):
        assert faults


def test_the_example_of_the_readme_works(project_root, tmp_path):
    text = (project_root / "datasets" / "README.md").read_text().split("## Your own data")[1]
    code = re.search(r"```python\n(.+?)```", text, re.DOTALL).group(1)
    lines = re.search(r"(?:^    .*\n)+", text, re.MULTILINE).group(0)
    write(tmp_path, lines)
    (tmp_path / "labels").rename(tmp_path / "panoptic")
    try:
        exec(code.replace("/data/parts", str(tmp_path)), {})
        (entry,) = DatasetCatalog.get("parts_train")
        assert entry["file_name"] == str(tmp_path / "images" / "a1.jpg")
        assert entry["segments_info"][0]["category_id"] == 1
        assert class_set("parts_train").names == ("belt", "bolt")
    finally:
        DatasetCatalog.remove("parts_train")
        MetadataCatalog.pop("parts_train", None)


def test_every_registered_set_is_in_the_readme(project_root):
    text = (project_root / "datasets" / "README.md").read_text()
    named = set()
    for pattern in re.findall(r"^\| `(\w+)_\{([\w,]+)\}`", text, re.MULTILINE):
        named |= {f"{pattern[0]}_{split}" for split in pattern[1].split(",")}
    own = {
        name
        for name in DatasetCatalog.list()
        if MetadataCatalog.get(name).get("evaluator_type") in ("panoptic", "slots")
        and re.match("cityscapes_(panoptic|generated)|kitti|bdd100k|clevr", name)
    }
    assert named == own
    assert len(own) > 40


def test_area_is_an_int_for_floats_of_numpy_size(tmp_path, content):
    segment(content)["area"] = float(np.float32(8))
    assert type(load(tmp_path, content)[0]["segments_info"][0]["area"]) is int
