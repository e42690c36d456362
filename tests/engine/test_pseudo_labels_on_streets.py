"""Classes, pseudo labels, mixed images and two kinds of views in one tiny training."""

import math

import pytest

from slotseg import get_cfg
from slotseg.engine.rng import seed_all
from slotseg.engine.trainer import Trainer

OVERRIDES = [
    "MODEL.DEVICE", "cpu",
    "MODEL.BACKBONE.NAME", "build_lean_unet_backbone",
    "MODEL.UNET.CHANNELS", [8, 8],
    "MODEL.UNET.BLOCKS", [1, 1],
    "MODEL.SLOTS.NUM_SLOTS", 8,
    "MODEL.SLOTS.DIM", 16,
    "MODEL.SLOTS.IN_FEATURE", "s4",
    "MODEL.SLOTS.INITIALIZER.NAME", "PeakInitializer",
    "MODEL.SLOTS.PEAKS.NUM", 4,
    "MODEL.SLOTS.PEAKS.CHANNELS", 8,
    "MODEL.DECODERS", ["MaskProductDecoder"],
    "MODEL.MASK_PRODUCT.DIM", 8,
    "MODEL.HEAD.NAME", "PanopticHead",
    "LOSSES.RECONSTRUCTION.WEIGHT", 0.0,
    "LOSSES.MASKS.WEIGHT", 1.0,
    "LOSSES.OBJECTNESS.WEIGHT", 1.0,
    "LOSSES.CLASS_MAP.WEIGHT", 1.0,
    "INPUT.IMAGE_SIZE", (32, 64),
    "INPUT.RANDOM_FLIP", "horizontal",
    "DATASETS.TRAIN", ("cityscapes_generated_train",),
    "DATASETS.TEST", (),
    "DATASETS.LABELED_IMAGES", 2,
    "DATALOADER.NUM_WORKERS", 0,
    "SOLVER.IMS_PER_BATCH", 2,
    "SOLVER.MAX_ITER", 4,
    "SOLVER.CHECKPOINT_PERIOD", 100,
    "PICTURES.IMAGES", 0,
    "SLOT_MONITOR.IMAGES", 0,
    "MEAN_TEACHER.ENABLED", True,
    "SEMI.IMS_PER_BATCH", 2,
    "SEMI.START", 1,
    "SEMI.RAMP", 0,
    "SEMI.WEIGHT", 0.5,
    # A new model is sure of nothing.
    "PSEUDO_LABELS.MAX_UNCERTAINTY", 1.0,
    "PSEUDO_LABELS.MIN_CONFIDENCE_THINGS", 0.0,
    "PSEUDO_LABELS.MIN_CONFIDENCE_STUFF", 0.0,
    "MODEL.HEAD.OBJECT_THRESHOLD", 0.0,
    "MIXING.MOSAIC.PROBABILITY", 0.5,
    "MIXING.CUTMIX.PROBABILITY", 1.0,
]  # fmt: skip


@pytest.mark.parametrize("measure", ["entropy", "view_variance"])
def test_a_model_with_classes_learns_from_its_teacher(
    measure, tmp_path, street_folder_factory, monkeypatch
):
    street_folder_factory(tmp_path, "train", num_images=6)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    seed_all(0)
    options = ["PSEUDO_LABELS.UNCERTAINTY", measure, "OUTPUT_DIR", str(tmp_path / "run")]
    trainer = Trainer(get_cfg(overrides=[*OVERRIDES, *options]))
    trainer.resume_or_load(resume=False)
    trainer.train()
    line = {name: value for name, (value, _) in trainer.storage.latest().items()}
    assert line["pseudo/weight"] == 0.5
    assert line["pseudo/kept"] > 0.5
    assert line["pseudo/segments"] >= 1.0
    assert any(name.startswith("pseudo/kept_") for name in line)
    names = {name for name in line if name.startswith("pseudo_loss_")}
    assert {"pseudo_loss_class", "pseudo_loss_mask_dice", "pseudo_loss_objectness"} <= names
    assert all(math.isfinite(line[name]) for name in names)
    own = sum(value for name, value in line.items() if name.startswith("loss_"))
    pseudo = sum(line[name] for name in names)
    assert line["total_loss"] == pytest.approx(own + 0.5 * pseudo, rel=1e-4)
