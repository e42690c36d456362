from detectron2.data import DatasetCatalog, MetadataCatalog
from pytest import raises

from slotseg.classes import Category, class_set, set_class_metadata, training_classes
from slotseg.config import get_cfg
from slotseg.errors import ConfigError

CATEGORIES = [
    Category(7, "road", False, (128, 64, 128)),
    Category(26, "car", True, (0, 0, 142)),
    Category(23, "sky", False, (70, 130, 180)),
]


def test_one_numbering_for_things_and_stuff():
    set_class_metadata("test_classes_street", CATEGORIES)
    classes = class_set("test_classes_street")
    assert classes.names == ("road", "car", "sky")
    assert classes.is_thing == (False, True, False)
    assert classes.dataset_ids == (7, 26, 23)
    assert classes.things == (1,) and classes.stuff == (0, 2)
    assert len(classes) == 3
    # Visualizer looks up both lists with the contiguous number.
    metadata = MetadataCatalog.get("test_classes_street")
    assert metadata.thing_classes[1] == "car" and metadata.stuff_classes[2] == "sky"


def test_a_set_that_lists_its_own_classes_is_loaded():
    name = "test_classes_lazy"
    DatasetCatalog.register(name, lambda: set_class_metadata(name, CATEGORIES) or [])
    assert class_set(name).names == ("road", "car", "sky")


def test_separately_numbered_sets_are_refused():
    MetadataCatalog.get("test_classes_separate").set(
        thing_dataset_id_to_contiguous_id={1: 0},
        stuff_dataset_id_to_contiguous_id={0: 0},
        stuff_classes=["background"],
    )
    with raises(ConfigError, match="test_classes_separate .*register_coco_panoptic"):
        class_set("test_classes_separate")
    with raises(ConfigError):
        class_set("test_classes_nobody_registered_this")


def test_a_model_has_the_classes_of_its_first_training_set():
    set_class_metadata("test_classes_first", CATEGORIES)
    names = "('test_classes_first', 'test_classes_second')"
    cfg = get_cfg(overrides=["DATASETS.TRAIN", names])
    assert training_classes(cfg) == class_set("test_classes_first")
    with raises(ConfigError, match=r"DATASETS\.TRAIN is empty, and SlotSeg takes its classes"):
        training_classes(get_cfg())
