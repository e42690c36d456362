"""Data: sets and their registration, reading, mapping and loading.

Importing this package registers the data sets with Detectron2 and touches no file.
"""

from slotseg.data.batch import TrainingBatch
from slotseg.data.datasets import (
    load_coco_panoptic,
    load_scene_dicts,
    register_all,
    register_coco_panoptic,
)
from slotseg.data.difficulty import hardest, image_difficulties
from slotseg.data.loader import (
    build_survey_loader,
    build_test_loader,
    build_train_loader,
    dataset_images,
    epoch_length,
    training_images,
)
from slotseg.data.mapper import SceneMapper
from slotseg.data.mappers import MAPPERS, build_mapper
from slotseg.data.panoptic_mapper import PanopticMapper
from slotseg.data.scene_folder import SceneWriter, is_complete, load_scenes
from slotseg.data.views import ViewRelation

register_all()

__all__ = [
    "MAPPERS",
    "PanopticMapper",
    "SceneMapper",
    "SceneWriter",
    "TrainingBatch",
    "ViewRelation",
    "build_mapper",
    "build_survey_loader",
    "build_test_loader",
    "build_train_loader",
    "dataset_images",
    "epoch_length",
    "hardest",
    "image_difficulties",
    "is_complete",
    "load_coco_panoptic",
    "load_scene_dicts",
    "load_scenes",
    "register_coco_panoptic",
    "training_images",
]
