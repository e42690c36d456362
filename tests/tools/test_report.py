"""tools/report.py on real, tiny runs."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import sys

import pytest

from slotseg import get_cfg
from slotseg.engine.trainer import Trainer
from slotseg.evaluation import read_image_scores

TINY = [
    "MODEL.DEVICE", "cpu",
    "DATASETS.TRAIN", ("clevr_generated_train",),
    "DATASETS.TEST", ("clevr_generated_val",),
    "INPUT.IMAGE_SIZE", (32, 32),
    "MODEL.SIMPLE_CNN.CHANNELS", [8, 8],
    "MODEL.SIMPLE_CNN.STRIDES", [2, 1],
    "MODEL.SLOTS.IN_FEATURE", "s2",
    "MODEL.SLOTS.NUM_SLOTS", 5,
    "MODEL.SLOTS.DIM", 16,
    "MODEL.SLOTS.INITIALIZER.NAME", "LearnedInitializer",
    "MODEL.SPATIAL_BROADCAST.CHANNELS", [8, 8],
    "MODEL.SPATIAL_BROADCAST.STRIDES", [2, 2],
    "SOLVER.IMS_PER_BATCH", 4,
    "SOLVER.MAX_ITER", 3,
    "SOLVER.WARMUP_ITERS", 1,
    "DATALOADER.NUM_WORKERS", 0,
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory, scene_folder_factory):
    """Data root and folder of a finished run of three steps."""
    root = tmp_path_factory.mktemp("datasets")
    scene_folder_factory(root / "clevr_generated" / "train", num_scenes=4, seed=0)
    scene_folder_factory(root / "clevr_generated" / "val", num_scenes=6, seed=2)
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(root))
        trainer = Trainer(get_cfg(overrides=[*TINY, "OUTPUT_DIR", str(folder)]))
        trainer.resume_or_load(resume=False)
        trainer.train()
    return root, folder


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """A copy of the run that a test may damage."""
    root, folder = trained
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    return shutil.copytree(folder, tmp_path / "tiny")


@pytest.fixture
def report(project_root, monkeypatch):
    """Run the tool in this process; returns its exit status."""

    def call(*arguments) -> int:
        monkeypatch.setattr(sys, "argv", ["report.py", *map(str, arguments)])
        try:
            runpy.run_path(str(project_root / "tools" / "report.py"), run_name="__main__")
        except SystemExit as stop:
            return stop.code
        return 0

    return call


def pictures(html: str) -> int:
    """How many images are shown, all of them with their panels and used slots."""
    labels = re.findall(r'<img src="data:image/png;base64,[^"]+" alt="(\w+)', html)
    for label in ("truth", "prediction", "reconstruction"):
        assert labels.count(label) == labels.count("image")
    assert labels.count("slot") >= labels.count("image")
    return labels.count("image")


def test_report_of_a_finished_run(report, run, capsys):
    assert report("--run", run, "--images", 4) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    html = (run / "report.html").read_text(encoding="utf-8")
    assert "Not everything could be shown" not in html
    assert pictures(html) == 4
    assert "From clevr_generated_val, predicted by model_final.pth." in html
    scores = json.loads((run / "results.json").read_text())["clevr_generated_val"]["slots"]
    assert f"{scores['ARI']:.3f}" in html
    for title in ("Best", "In the middle", "Worst", "Drawn at random"):
        assert f"<h3>{title}</h3>" in html
    for chart in ("Losses", "Scores", "Slot similarity", "Mask entropy", "Gradient norms"):
        assert f"<h3>{chart}</h3>" in html
    assert "<strong>torch" not in html
    assert "IMS_PER_BATCH: 4" in html


def test_output_and_no_images(report, run, tmp_path):
    path = tmp_path / "elsewhere" / "page.html"
    assert report("--run", run, "--output", path, "--images", 0) == 0
    assert pictures(path.read_text(encoding="utf-8")) == 0
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("damage", "words", "expected"),
    [
        (lambda run: (run / "config.yaml").unlink(), "config.yaml is missing", 0),
        (lambda run: (run / "model_final.pth").write_bytes(b"PK"), "model_final.pth", 0),
        (lambda run: (run / "model_final.pth").unlink(), "predicted by model_best.pth", 2),
        (lambda run: shutil.rmtree(run / "inference"), "Drawn at random", 2),
    ],
)
def test_what_is_missing_is_named(report, run, damage, words, expected):
    damage(run)
    assert report("--run", run, "--images", 2) == 0
    html = (run / "report.html").read_text(encoding="utf-8")
    assert words in html
    assert pictures(html) == expected


def test_without_the_data_set_everything_else_is_there(report, run, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "nowhere"))
    assert report("--run", run) == 0
    html = (run / "report.html").read_text(encoding="utf-8")
    assert "No images: " in html
    assert "nowhere/clevr_generated/val" in html
    assert pictures(html) == 0
    assert "<svg" in html


def test_shown_scores_are_those_of_the_shown_prediction(report, run):
    """With learnt initial slots nothing is sampled, so they are the evaluator's, too."""
    images = read_image_scores(str(run / "inference" / "clevr_generated_val_images.csv"))
    assert report("--run", run, "--images", 6) == 0
    html = (run / "report.html").read_text(encoding="utf-8")
    shown = re.findall(r"<strong>(\d+\.png)</strong>.*?ARI</span> (-?[\d.]+)<", html)
    expected = {os.path.basename(image.file_name): image.scores["ARI"] for image in images}
    assert len(shown) == len(expected) == 6
    for name, score in shown:
        # Pixels between two slots may go either way with the size of the batch.
        assert float(score) == pytest.approx(expected[name], abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run", "nowhere"], "error: nowhere: no such run folder"),
        (["--run", "{run}", "--images", "-1"], "error: --images"),
        (["--run", "{run}", "--images", "0", "--output", "{run}"], "cannot be written"),
    ],
)
def test_wrong_use_is_one_line(report, run, arguments, message, capsys):
    assert report(*[argument.format(run=run) for argument in arguments]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]
