"""The README's commands and its Python example, run as written, only smaller."""

import re
import shlex
import shutil

import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

import slotseg
from slotseg.engine import load_weights

# What makes a command small enough for a test.
SMALLER = {
    "generate_clevr.py": ["--train", "8", "--tune", "1", "--val", "2", "--workers", "1"],
    "train_net.py": ["SOLVER.MAX_ITER", "1", "DATALOADER.NUM_WORKERS", "0"],
    "generate_streets.py": ["--num", "4", "2", "2", "--size", "48", "96", "--workers", "1"],
    "visualize_data.py": ["--num", "2"],
    "compare.py": [
        *("--train-minutes", "0.05", "--evaluations", "1", "--speed-images", "1"),
        *("INPUT.IMAGE_SIZE", "(64, 128)", "SOLVER.IMS_PER_BATCH", "1"),
        *("DATALOADER.NUM_WORKERS", "0"),
    ],
    "ablate.py": [
        *("--only", "CutMix", "--steps", "1", "--seeds", "0", "DATASETS.LABELED_FRACTION", "0.5"),
        *("INPUT.IMAGE_SIZE", "(64, 128)", "SOLVER.IMS_PER_BATCH", "2"),
        *("DATALOADER.NUM_WORKERS", "0"),
    ],
    "ladder.py": [
        *("--only", "0_baseline", "--steps", "1", "--speed-images", "1", "--memory-size", "none"),
        *("--climb-anyway", "DATALOADER.NUM_WORKERS", "0"),
    ],
}


@pytest.fixture
def commands(project_root):
    """(tool, arguments) of every line of the README that runs a tool."""
    readme = (project_root / "README.md").read_text().replace("\\\n", " ")
    lines = re.findall(r"^python tools/(\S+)(.*)$", readme, re.MULTILINE)
    assert [tool for tool, _ in lines] == [
        "generate_clevr.py",
        "train_net.py",
        "train_net.py",
        "demo.py",
        "report.py",
        "generate_streets.py",
        "check_dataset.py",
        "visualize_data.py",
        "compare.py",
        "evaluate_panoptic.py",
        "train_net.py",
        "ablate.py",
        "ladder.py",
    ]
    return [(tool, shlex.split(arguments, comments=True)) for tool, arguments in lines]


def test_the_commands_run_one_after_the_other(commands, start_tool, project_root, tmp_path):
    (tmp_path / "configs").symlink_to(project_root / "configs")
    Image.new("RGB", (160, 120), "grey").save(tmp_path / "image.png")
    environment = {"DETECTRON2_DATASETS": str(tmp_path / "datasets")}
    for tool, arguments in commands:
        if tool == "evaluate_panoptic.py":
            put_truth_and_prediction(tmp_path)
        run = start_tool(tool, *arguments, *SMALLER.get(tool, []), environment=environment)
        assert run.finish() == 0, run.err
        if tool == "evaluate_panoptic.py":
            assert re.search(r"100\.0", run.out), run.out
    output = tmp_path / "output" / "clevr_supervised_lean"
    assert "ARI" in (output / "report.html").read_text()
    assert (output / "eval_only" / "results.json").is_file()
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == {
        "image_segments.png",
        "image_slots.png",
        "data",
    }
    assert len(list((tmp_path / "drawn" / "data").iterdir())) == 2
    table = (tmp_path / "output" / "compared" / "comparison.md").read_text()
    assert "slot_lean_generated" in table and "panoptic_fpn_r50_generated" in table
    ablation = (tmp_path / "output" / "semi" / "ablation.md").read_text()
    assert "supervised" in ablation and "CutMix" in ablation
    assert "0_baseline" in (tmp_path / "output" / "clevr_ladder" / "ladder.md").read_text()


def put_truth_and_prediction(folder):
    """truth.json, truth, found.json and found: a generated set, found without a fault."""
    made = folder / "datasets" / "streets_generated" / "cityscapes" / "gtFine"
    for name in ("truth", "found"):
        shutil.copy(made / "cityscapes_panoptic_val.json", folder / f"{name}.json")
        shutil.copytree(made / "cityscapes_panoptic_val", folder / name)


def test_the_python_example_loads_what_training_saved(project_root, tmp_path):
    readme = (project_root / "README.md").read_text()
    example = re.search(r"```python\n(.+?)```", readme, re.DOTALL)[1]
    weights = tmp_path / "model_best.pth"
    cfg = slotseg.get_cfg(str(project_root / "configs" / "clevr" / "supervised_lean.yaml"))
    trained = build_model(cfg)
    torch.save({"model": trained.state_dict()}, weights)
    example = example.replace("output/quickstart/model_best.pth", str(weights))
    example = example.replace("configs/clevr", str(project_root / "configs" / "clevr"))
    names = {}
    exec(example, names)
    assert names["load_weights"] is load_weights
    for key, value in names["model"].state_dict().items():
        assert torch.equal(value, trained.state_dict()[key])
