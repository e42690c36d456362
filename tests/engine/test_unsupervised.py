"""The protocol without labels from one config: train, cluster, score, and score again."""

from __future__ import annotations

import logging

import pytest
import torch

from slotseg.data import build_train_loader
from slotseg.engine.commands import evaluate_weights
from slotseg.engine.trainer import Trainer
from slotseg.engine.unsupervised import with_clusters
from slotseg.errors import ConfigError

SETTINGS = (
    "DATASETS.TRAIN", ("cityscapes_generated_train",),
    "DATASETS.TEST", ("cityscapes_generated_val",),
    "DATASETS.TRAIN_LABELS", False,
    "INPUT.IMAGE_SIZE", (16, 32),
    "MODEL.BACKBONE.NAME", "build_dinov2_backbone",
    "MODEL.VIT.NAME", "vit_tiny_patch16_224",
    "MODEL.VIT.ARGS", {"img_size": [16, 32], "patch_size": 4, "embed_dim": 16, "depth": 1,
                       "num_heads": 2},
    "MODEL.SLOTS.IN_FEATURE", "s4",
    "MODEL.DECODERS", ["FeatureMLPDecoder"],
    "MODEL.FEATURE_MLP.TARGET", "s4",
    "MODEL.FEATURE_MLP.HIDDEN", 16,
    "LOSSES.MASKS.WEIGHT", 0.0,
    "LOSSES.FEATURES.WEIGHT", 1.0,
    "UNSUPERVISED.CLUSTERS", 4,
    "UNSUPERVISED.MIN_AREA", 1,
    "SOLVER.MAX_ITER", 2, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.WARMUP_ITERS", 0,
    "TEST.BEST_METRIC", "panoptic/PQ", "TEST.IMS_PER_BATCH", 2, "TEST.EVAL_PERIOD", 100,
)  # fmt: skip


@pytest.fixture(scope="module")
def streets(tmp_path_factory, street_folder_factory):
    root = tmp_path_factory.mktemp("datasets")
    for split, count in (("train", 4), ("val", 3)):
        street_folder_factory(root, split, num_images=count, size=(32, 64))
    return root


@pytest.fixture
def cfg_of(tiny_cfg, streets, monkeypatch):
    def make(*overrides):
        cfg = tiny_cfg(*SETTINGS, *overrides)
        monkeypatch.setenv("DETECTRON2_DATASETS", str(streets))
        return cfg

    return make


def test_train_cluster_score_and_score_again(cfg_of, tmp_path, caplog):
    cfg = cfg_of()
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    scores = trainer.train()["cityscapes_generated_val"]
    assert scores["clusters"]["clusters"] == 4
    assert scores["clusters"]["classes"] == 19
    assert scores["panoptic"]["images"] == 3
    path = tmp_path / "run" / "clusters.pth"
    made = path.stat().st_mtime_ns

    with caplog.at_level(logging.INFO, logger="slotseg.engine.unsupervised"):
        again = evaluate_weights(cfg)["cityscapes_generated_val"]
    assert again["clusters"] == scores["clusters"]
    assert again["panoptic"] == pytest.approx(scores["panoptic"], nan_ok=True)
    # What is only scored differently needs no other clusters.
    cfg.UNSUPERVISED.EXTRA_CLUSTERS = "void"
    evaluate_weights(cfg)
    assert "4 clusters from" in caplog.text
    assert path.stat().st_mtime_ns == made
    assert not (tmp_path / "run" / "eval_only" / "clusters.pth").exists()

    # Other options find others, kept beside the new scores.
    cfg.UNSUPERVISED.CLUSTERS = 5
    assert evaluate_weights(cfg)["cityscapes_generated_val"]["clusters"]["clusters"] == 5
    assert (tmp_path / "run" / "eval_only" / "clusters.pth").is_file()
    assert path.stat().st_mtime_ns == made


def test_the_same_weights_in_another_model_have_other_clusters(cfg_of, caplog):
    """What is no weight decides as well: clusters of three iterations are none of one."""
    cfg = cfg_of()
    model = Trainer.build_model(cfg)
    with_clusters(cfg, model)

    def found_again(*overrides):
        cfg.merge_from_list([*overrides])
        other = Trainer.build_model(cfg)
        other.load_state_dict(model.state_dict())
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="slotseg.engine.unsupervised"):
            with_clusters(cfg, other)
        return "4 clusters from" not in caplog.text

    assert not found_again("MODEL.WEIGHTS", "https://example.invalid/model.pth")
    assert found_again("MODEL.SLOTS.GROUPING.ITERATIONS", 1)


def test_nobody_looks_for_clusters_beside_weights_on_the_web(cfg_of):
    cfg = cfg_of("MODEL.WEIGHTS", "https://example.invalid/model.pth")
    assert len(with_clusters(cfg, Trainer.build_model(cfg)).clusters) == 4


@pytest.mark.parametrize("parts", ["slots", "features", "colors"])
def test_every_kind_of_parts_is_scored_under_the_same_protocol(cfg_of, parts):
    cfg = cfg_of("UNSUPERVISED.PARTS", parts, "UNSUPERVISED.IMAGES", 3)
    model = Trainer.build_model(cfg)
    segmenter = with_clusters(cfg, model)
    assert model.training  # as it was before
    batch = next(iter(Trainer.build_test_loader(cfg, "cityscapes_generated_val")))
    with torch.no_grad():
        ids, segments = segmenter.eval()(batch)[0]["panoptic_seg"]
    assert ids.shape == (32, 64)
    assert segments and all(0 <= s["category_id"] < 4 for s in segments)


def test_training_reads_no_labels(cfg_of):
    batch = next(iter(build_train_loader(cfg_of())))
    assert set(batch[0]) == {"file_name", "image_id", "height", "width", "image"}


def test_models_that_saw_labels_are_told_apart(cfg_of, caplog):
    cfg = cfg_of("DATASETS.TRAIN_LABELS", True)
    with caplog.at_level(logging.WARNING, logger="slotseg.engine.unsupervised"):
        with_clusters(cfg, Trainer.build_model(cfg))
    assert "may have been trained with labels" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("UNSUPERVISED.PARTS", "pixels"), "PARTS is 'pixels', choose from slots, features, color"),
        (("UNSUPERVISED.FEATURE", "s3"), "FEATURE: the backbone has no output 's3'; choose from"),
        (("UNSUPERVISED.RESTARTS", 0), "RESTARTS is 0, it must be at least 1"),
        (("UNSUPERVISED.IMAGES", -1), r"IMAGES is -1, it must be 0 \(all\) or more"),
        (("UNSUPERVISED.CLUSTERS", 500), "CLUSTERS is 500, but there are only"),
        (("UNSUPERVISED.EXTRA_CLUSTERS", "x"), "EXTRA_CLUSTERS is 'x', choose from majority"),
        (("DATASETS.TEST", ("clevr_generated_val",)), "clevr_generated_val has no classes"),
        (("TEST.SLOT_SCORES", True), "segments are those of clusters, not of slots"),
    ],
    ids=["parts", "feature", "restarts", "images", "clusters", "extra", "scenes", "slot scores"],
)
def test_options_that_cannot_work_are_refused_in_one_line(cfg_of, overrides, message):
    cfg = cfg_of(*overrides)
    with pytest.raises(ConfigError, match=message) as error:
        Trainer.test(cfg, Trainer.build_model(cfg))
    assert "\n" not in str(error.value)


def test_off_the_model_stays_as_it_is(cfg_of):
    model = torch.nn.Identity()
    assert with_clusters(cfg_of("UNSUPERVISED.CLUSTERS", 0), model) is model
