"""Training, scoring, prediction and reports on panoptic sets."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY

from slotseg.engine.commands import evaluate_weights
from slotseg.engine.demo import run_demo
from slotseg.engine.evaluators import build_evaluator
from slotseg.engine.predictor import Predictor
from slotseg.engine.report import report_run
from slotseg.engine.trainer import Trainer
from slotseg.errors import CheckpointError, ConfigError


class PaintsSky(torch.nn.Module):
    """A model of another kind: one learnt number, and sky everywhere."""

    def __init__(self, cfg):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.looks = 0

    def forward(self, batch):
        if self.training:
            return {"loss_sky": self.weight.square()}
        self.looks += len(batch)
        return [{"panoptic_seg": self.paint(item["height"], item["width"])} for item in batch]

    @staticmethod
    def paint(height, width):
        segment = {"id": 3, "category_id": 10, "isthing": False, "area": height * width}
        return torch.full((height, width), 3, dtype=torch.int32), [segment]


if "PaintsSky" not in META_ARCH_REGISTRY:
    META_ARCH_REGISTRY.register(PaintsSky)


@pytest.fixture(scope="module")
def streets(tmp_path_factory, street_folder_factory):
    root = tmp_path_factory.mktemp("datasets")
    for split, count in (("train", 4), ("val", 3)):
        street_folder_factory(root, split, num_images=count, size=(32, 64))
    return root


@pytest.fixture
def street_cfg(tiny_cfg, streets, monkeypatch):
    """The tiny run on streets, seen at half their size."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(streets))

    def make(*overrides):
        return tiny_cfg(
            "DATASETS.TRAIN", ("cityscapes_generated_train",),
            "DATASETS.TEST", ("cityscapes_generated_val",),
            "INPUT.IMAGE_SIZE", (16, 32),
            "MODEL.HEAD.NAME", "PanopticHead",
            "SOLVER.MAX_ITER", 2, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.WARMUP_ITERS", 0,
            "TEST.BEST_METRIC", "panoptic/PQ", "TEST.IMS_PER_BATCH", 2,
            *overrides,
        )  # fmt: skip

    return make


def train(cfg):
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    return trainer, trainer.train()


def test_slots_with_classes_have_both_kinds_of_scores(street_cfg, tmp_path):
    cfg = street_cfg("TEST.SLOT_SCORES", True, "TEST.EXPORT_COCO", True)
    _, results = train(cfg)
    scores = results["cityscapes_generated_val"]
    assert scores["panoptic"]["images"] == scores["panoptic"]["images_expected"] == 3
    # Panoptic quality at the size of the file, slot scores at that of the model's input.
    assert (scores["slots"]["height"], scores["slots"]["width"]) == (16, 32)
    assert -1 <= scores["slots"]["ARI"] <= 1
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.json").open()]
    assert logged[-1]["panoptic/PQ"] == pytest.approx(scores["panoptic"]["PQ"])
    assert "slots/ARI" in logged[-1]
    assert (tmp_path / "run" / "monitor.jsonl").is_file()
    assert torch.load(tmp_path / "run" / "model_best.pth")["best"]["metric"] == "panoptic/PQ"
    inference = tmp_path / "run" / "inference"
    assert (inference / "cityscapes_generated_val_predictions.json").is_file()
    assert (inference / "cityscapes_generated_val_images.csv").is_file()


def test_models_without_slots_are_trained_scored_and_shown(street_cfg, tmp_path, streets):
    cfg = street_cfg("MODEL.META_ARCHITECTURE", "PaintsSky", "SLOT_MONITOR.IMAGES", 3)
    trainer, results = train(cfg)
    scores = results["cityscapes_generated_val"]["panoptic"]
    # Sky is less than half of what was painted.
    assert (scores["PQ-sky"], scores["images"]) == (0.0, 3.0)
    # A rehearsal (2), one batch for the slot monitor (2), the pictures, the last evaluation.
    assert trainer.plain_model.looks == 2 + 2 + 3 + 3
    assert not (tmp_path / "run" / "monitor.jsonl").exists()

    page = report_run(str(tmp_path / "run"), num_images=2)
    html = Path(page).read_text(encoding="utf-8")
    assert "Not everything could be shown" not in html
    assert "Slot monitor" not in html
    assert "PaintsSky" in html
    assert "Panoptic quality (Kirillov et al. 2019)" in html
    assert "<td>sky</td>" in html
    assert "<h3>Panoptic quality</h3>" in html
    assert html.count('alt="truth of') == html.count('alt="prediction of') == 2

    image = next((streets / "streets_generated/cityscapes/leftImg8bit/val").rglob("*.png"))
    cfg.MODEL.WEIGHTS = str(tmp_path / "run" / "model_final.pth")
    assert run_demo(cfg, [str(image)], str(tmp_path / "drawn")) == 0
    assert len(list((tmp_path / "drawn").iterdir())) == 1
    with pytest.raises(ConfigError, match="--slots: PaintsSky has no slots"):
        run_demo(cfg, [str(image)], str(tmp_path / "drawn"), slots=True)


def test_predictions_have_the_size_and_the_classes_of_the_set(street_cfg, streets, monkeypatch):
    image = next((streets / "streets_generated/cityscapes/leftImg8bit/val").rglob("*.png"))
    pixels = cv2.imread(str(image))
    # No data set is needed to predict.
    monkeypatch.setenv("DETECTRON2_DATASETS", "nowhere")
    predictor = Predictor(street_cfg())
    prediction = predictor.predict_file(str(image))
    assert prediction.image.shape == (32, 64, 3)
    assert np.array_equal(prediction.image, pixels[:, :, ::-1])
    assert prediction.segments.shape == (32, 64)
    assert prediction.metadata is MetadataCatalog.get("cityscapes_generated_train")
    assert prediction.masks.shape[0] == 5
    assert torch.equal(predictor(pixels)["panoptic_seg"][0], prediction.output["panoptic_seg"][0])
    # The masks are those that the segments come from, whatever slot scores are asked for.
    attention = Predictor(street_cfg("TEST.MASK_SOURCE", "attention")).predict_file(str(image))
    assert np.array_equal(attention.masks, attention.output["slot_masks"].numpy())
    # Slots without classes are shown as slots.
    free = Predictor(street_cfg("MODEL.HEAD.NAME", "")).predict_file(str(image))
    assert free.metadata is None
    assert free.segments.shape == free.image.shape[:2] == (32, 64)


def test_report_of_slots_without_classes(street_cfg, tmp_path):
    """Truth comes at the model's size, predictions at the file's."""
    cfg = street_cfg("MODEL.HEAD.NAME", "", "TEST.SLOT_SCORES", True)
    _, results = train(cfg)
    assert results["cityscapes_generated_val"].keys() == {"panoptic", "slots"}
    html = Path(report_run(str(tmp_path / "run"), num_images=1)).read_text(encoding="utf-8")
    assert "Not everything could be shown" not in html
    assert html.count('alt="truth of') == 1
    assert 'alt="slot' in html


def test_models_that_load_their_own_weights_need_no_checkpoint(street_cfg, streets, tmp_path):
    cfg = street_cfg("MODEL.META_ARCHITECTURE", "PaintsSky")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        evaluate_weights(cfg)
    cfg.MODEL.HUGGINGFACE.PRETRAINED = "a folder that the model reads by itself"
    assert evaluate_weights(cfg)["cityscapes_generated_val"]["panoptic"]["images"] == 3
    image = next((streets / "streets_generated/cityscapes/leftImg8bit/val").rglob("*.png"))
    assert run_demo(cfg, [str(image)], str(tmp_path / "drawn")) == 0
    # Once it was trained further, its checkpoint counts; a lost one is not passed over.
    (tmp_path / "run").mkdir(exist_ok=True)
    (tmp_path / "run" / "last_checkpoint").write_text("model_0000001.pth")
    with pytest.raises(CheckpointError, match=r"model_0000001\.pth, which is not there"):
        evaluate_weights(cfg)


def test_classes_of_another_set_are_not_scored_as_if_they_were_the_models(street_cfg):
    cfg = street_cfg("DATASETS.TRAIN", ("bdd100k_generated_train",))
    with pytest.raises(ConfigError, match="generated_val has 19 classes .* the 40 of bdd"):
        build_evaluator(cfg, "cityscapes_generated_val")
    # The same classes under other names of sets, and with other things among them.
    for train in ("bdd100k_generated19_train", "kitti_step_generated_train"):
        build_evaluator(street_cfg("DATASETS.TRAIN", (train,)), "cityscapes_generated_val")


def test_unknown_kinds_of_sets_are_named(tiny_cfg):
    MetadataCatalog.get("test_of_another_kind").evaluator_type = "captions"
    with pytest.raises(ConfigError, match="'captions', known are slots, panoptic"):
        build_evaluator(tiny_cfg(), "test_of_another_kind")
