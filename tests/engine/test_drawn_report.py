"""Reports on models that draw: pictures without segments, and samples on request."""

from __future__ import annotations

import pytest

from slotseg.engine.predictor import Predictor
from slotseg.engine.report import report_run
from slotseg.engine.trainer import Trainer
from slotseg.errors import ConfigError

AUTOENCODER = (
    "MODEL.META_ARCHITECTURE", "LatentAutoencoder",
    "DATASETS.TEST", (),
    "MODEL.AUTOENCODER.PATCH", 2,
    "MODEL.AUTOENCODER.CHANNELS", [8, 8],
    "MODEL.AUTOENCODER.BLOCKS", 1,
    "MODEL.AUTOENCODER.NORM_GROUPS", 4,
    "SOLVER.MAX_ITER", 2,
    "PICTURES.IMAGES", 0,
)  # fmt: skip
DIFFUSION = (
    "MODEL.DECODERS", ["MaskProductDecoder", "LatentDiffusionDecoder"],
    "MODEL.DIFFUSION.CHANNELS", [32],
    "MODEL.DIFFUSION.ATTENTION", [True],
    "MODEL.DIFFUSION.BLOCKS", 1,
    "MODEL.DIFFUSION.NORM_GROUPS", 8,
    "MODEL.DIFFUSION.SAMPLER_STEPS", 2,
    "LOSSES.DIFFUSION.WEIGHT", 1.0,
    "SOLVER.MAX_ITER", 2,
    "PICTURES.IMAGES", 0,
)  # fmt: skip


@pytest.fixture
def run(tiny_cfg):
    """``run(name, KEY, VALUE, ...)``: a finished run's config."""

    def make(name, *overrides):
        cfg = tiny_cfg(*overrides, output=name)
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=False)
        trainer.train()
        return cfg

    return make


def test_from_the_autoencoder_to_a_report_with_samples(run, tmp_path):
    autoencoder = run("autoencoder", *AUTOENCODER)
    page = tmp_path / "autoencoder.html"
    report_run(autoencoder.OUTPUT_DIR, str(page), num_images=2)
    text = page.read_text()
    assert text.count(">reconstruction<") == 2
    assert ">prediction<" not in text
    with pytest.raises(ConfigError, match="LatentAutoencoder makes no segments"):
        predictor = Predictor(autoencoder)
        predictor.predict(predictor.mapper({"file_name": _image(tmp_path), "image_id": "0"}))

    weights = f"{autoencoder.OUTPUT_DIR}/model_final.pth"
    slots = run("slots", *DIFFUSION, "MODEL.DIFFUSION.AUTOENCODER", weights)
    page = tmp_path / "slots.html"
    report_run(slots.OUTPUT_DIR, str(page), num_images=2)
    text = page.read_text()
    assert text.count(">reconstruction<") == 2
    assert text.count(">prediction<") == 2

    predictor = Predictor(slots)
    item = predictor.mapper({"file_name": _image(tmp_path), "image_id": "0"})
    assert predictor.predict(item).drawn == {}
    one, two = (predictor.predict(item, draw=True).drawn["reconstruction"] for _ in range(2))
    assert one.shape == (32, 32, 3)
    assert (one == two).all()


def _image(folder) -> str:
    import cv2
    import numpy as np

    path = str(folder / "image.png")
    cv2.imwrite(path, np.zeros((40, 40, 3), np.uint8))
    return path
