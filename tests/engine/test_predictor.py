"""Single images through a trained model, from files and from arrays."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from slotseg.engine.predictor import Predictor
from slotseg.engine.trainer import Trainer
from slotseg.errors import CheckpointError, ConfigError, DatasetError


@pytest.fixture
def image_file(tmp_path):
    path = tmp_path / "scene.png"
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    cv2.imwrite(str(path), image)
    return path


def test_file_and_arrays_give_the_same_segments(tiny_cfg, image_file):
    predictor = Predictor(tiny_cfg("INPUT.CROP_WINDOW", (4, 8, 44, 60)))
    from_file = predictor.predict_file(str(image_file))
    bgr = cv2.imread(str(image_file))
    from_bgr = predictor(bgr)
    from_rgb = predictor(bgr[:, :, ::-1], "RGB")
    for output in (from_bgr, from_rgb):
        assert torch.equal(output["panoptic_seg"][0], from_file.output["panoptic_seg"][0])
        assert torch.equal(output["slots"], from_file.output["slots"])
    assert from_file.image.shape == (32, 32, 3)
    assert torch.equal(from_file.segments, from_file.output["panoptic_seg"][0].long())
    assert from_file.masks.shape[0] == 5


def test_image_is_rgb_whatever_the_model_takes(tiny_cfg, image_file):
    expected = Predictor(tiny_cfg()).predict_file(str(image_file)).image
    bgr = Predictor(tiny_cfg("INPUT.FORMAT", "BGR")).predict_file(str(image_file)).image
    assert np.array_equal(bgr, expected)
    grey = Predictor(
        tiny_cfg("INPUT.FORMAT", "L", "MODEL.PIXEL_MEAN", [127.5], "MODEL.PIXEL_STD", [127.5])
    )
    prediction = grey.predict_file(str(image_file))
    assert (prediction.image == prediction.image[:, :, :1]).all()
    assert torch.equal(grey(cv2.imread(str(image_file)))["slots"], prediction.output["slots"])


def test_an_image_always_gets_the_same_sampled_slots_and_no_seed_moves(tiny_cfg, image_file):
    predictor = Predictor(tiny_cfg())
    state = torch.get_rng_state()
    first = predictor.predict_file(str(image_file)).output["slots"]
    assert torch.equal(predictor.predict_file(str(image_file)).output["slots"], first)
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_are_loaded(tiny_cfg, image_file, tmp_path):
    trained = Trainer(tiny_cfg())
    trained.checkpointer.save_weights("model_x")
    path = str(tmp_path / "run" / "model_x.pth")
    torch.manual_seed(99)
    predictor = Predictor(tiny_cfg("MODEL.WEIGHTS", path))
    for name, weight in predictor.model.state_dict().items():
        assert torch.equal(weight, trained.plain_model.state_dict()[name])
    with pytest.raises(CheckpointError, match="another model"):
        Predictor(tiny_cfg("MODEL.WEIGHTS", path, "MODEL.SLOTS.DIM", 8))


def test_attention_masks_on_request(tiny_cfg, image_file):
    prediction = Predictor(tiny_cfg("TEST.MASK_SOURCE", "attention")).predict_file(str(image_file))
    assert np.array_equal(prediction.masks, prediction.output["attention"].numpy())
    assert prediction.segments.shape == (32, 32)
    assert {entry["id"] for entry in prediction.segments_info} == set(
        prediction.segments.unique().tolist()
    )


def test_what_is_no_image_is_refused(tiny_cfg):
    predictor = Predictor(tiny_cfg("INPUT.CROP_WINDOW", (0, 0, 40, 40)))
    image = np.zeros((48, 48, 3), np.uint8)
    with pytest.raises(DatasetError, match="uint8"):
        predictor(image / 255)
    with pytest.raises(DatasetError, match="RGB or BGR"):
        predictor(image, "HSV")
    with pytest.raises(DatasetError, match="does not hold INPUT.CROP_WINDOW"):
        predictor(image[:30])


def test_a_model_without_the_wanted_masks_is_named(tiny_cfg, image_file, monkeypatch):
    predictor = Predictor(tiny_cfg())
    monkeypatch.setattr(
        predictor.model, "forward", lambda batch: [{"panoptic_seg": (torch.zeros(32, 32), [])}]
    )
    with pytest.raises(ConfigError, match=r"TEST\.MASK_SOURCE"):
        predictor.predict_file(str(image_file))


def test_parents_masks_on_request(tiny_cfg, image_file):
    two_levels = ("MODEL.SLOTS.GROUPING.NAME", "NestedSlotAttention",
                  "MODEL.SLOTS.GROUPING.SUB_SLOTS", 3)  # fmt: skip
    cfg = tiny_cfg(*two_levels, "MODEL.SLOTS.NUM_SLOTS", 2, "TEST.MASK_SOURCE", "parents")
    prediction = Predictor(cfg).predict_file(str(image_file))
    families = prediction.output["slot_masks"].unflatten(0, (2, 3))
    np.testing.assert_allclose(prediction.masks, families.sum(1).numpy(), atol=1e-6)
    assert set(prediction.segments.unique().tolist()) <= {1, 2}
