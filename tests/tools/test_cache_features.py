"""From the command line: pretrain a ViT without labels, cache its features, train slots on them."""

import json
import re

import pytest


@pytest.fixture(scope="module")
def vit_config(project_root):
    return project_root / "tests" / "engine" / "tiny_vit.yaml"


def test_pretrain_cache_and_train(start_tool, tmp_path, vit_config, tiny_datasets):
    environment = {"DETECTRON2_DATASETS": str(tiny_datasets)}

    def run(tool, *arguments):
        started = start_tool(tool, *arguments, environment=environment)
        return started.finish(), started

    # Without labels, scores and test images; whoever looks at the run sees what it paints.
    pretraining = ("MODEL.META_ARCHITECTURE", "MaskedAutoencoder", "MODEL.VIT.UNFROZEN_BLOCKS", -1)
    status, tool = run(
        *("train_net.py", "--config-file", vit_config, "--num-gpus", 0, *pretraining),
        *("DATASETS.TEST", "()", "MODEL.VIT.KEYS", "False", "MODEL.MAE.DECODER_DIM", 32),
        *("SOLVER.MAX_ITER", 3, "OUTPUT_DIR", "mae"),
    )
    assert status == 0, tool.err
    status, tool = run("report.py", "--run", "mae", "--images", 2)
    assert status == 0, tool.err
    html = (tmp_path / "mae" / "report.html").read_text(encoding="utf-8")
    labels = re.findall(r'<img src="data:image/png;base64,[^"]+" alt="([a-z ]+) of', html)
    assert labels == ["image", "masked image", "reconstruction"] * 2
    assert "loss_patches" in html and "loss_colors" in html

    weights = ("MODEL.VIT.WEIGHTS", "mae/model_final.pth")
    cache = ("cache_features.py", "--config-file", vit_config, "--output", "features")
    status, tool = run(*cache, "--dry-run", *weights)
    assert status == 0, tool.err
    assert "features: 15 images, s4 16 x 8 x 8, keys 16 x 8 x 8 as float16: 4 kB" in tool.out
    assert not (tmp_path / "features").exists()
    status, tool = run(*cache, *weights)
    assert status == 0, tool.err
    assert tool.out.splitlines()[1:] == [
        "written, every byte checked",
        "train with: MODEL.VIT.CACHE features",
    ]

    training = ("train_net.py", "--config-file", vit_config, "--num-gpus", 0)
    cached = ("MODEL.VIT.CACHE", "features", "DATALOADER.NUM_WORKERS", 1, "SOLVER.MAX_ITER", 3)
    status, tool = run(*training, *weights, *cached, "OUTPUT_DIR", "slots")
    assert status == 0, tool.err
    results = json.loads((tmp_path / "slots" / "results.json").read_text())
    assert -1 <= results["clevr_generated_val"]["slots"]["ARI"] <= 1

    # A ViT that is not the one whose features these are.
    status, tool = run(*training, *cached, "OUTPUT_DIR", "other")
    assert status == 1
    assert tool.err.splitlines()[-1].startswith("error: features: holds features of a ViT with")
