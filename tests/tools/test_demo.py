"""tools/demo.py on a model with random weights."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from slotseg import get_cfg
from slotseg.engine.checkpoint import SlotSegCheckpointer
from slotseg.engine.demo import find_images, output_names

TINY = [
    "MODEL.DEVICE", "cpu",
    "INPUT.IMAGE_SIZE", (32, 32),
    "INPUT.CROP_WINDOW", (0, 0, 40, 40),
    "MODEL.SIMPLE_CNN.CHANNELS", [8, 8],
    "MODEL.SIMPLE_CNN.STRIDES", [2, 1],
    "MODEL.SLOTS.IN_FEATURE", "s2",
    "MODEL.SLOTS.NUM_SLOTS", 4,
    "MODEL.SLOTS.DIM", 16,
    "MODEL.SPATIAL_BROADCAST.CHANNELS", [8, 8],
    "MODEL.SPATIAL_BROADCAST.STRIDES", [2, 2],
]  # fmt: skip


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run's folder with a config and untrained weights."""
    folder = tmp_path_factory.mktemp("run")
    cfg = get_cfg(overrides=[*TINY, "OUTPUT_DIR", str(folder)])
    torch.manual_seed(0)
    SlotSegCheckpointer(build_model(cfg), str(folder)).save_weights("model_best")
    (folder / "config.yaml").write_text(cfg.dump())
    return folder


@pytest.fixture
def images(tmp_path):
    """Three scenes; the last in a folder of its own under the name of the first."""
    generator = np.random.default_rng(0)
    paths = [tmp_path / "in" / "a.png", tmp_path / "in" / "b.jpg", tmp_path / "more" / "a.png"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        pixels = generator.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


@pytest.fixture
def demo(project_root, monkeypatch):
    """Run the tool in this process; returns its exit status."""

    def run(*arguments) -> int:
        monkeypatch.setattr(sys, "argv", ["demo.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(project_root / "tools" / "demo.py"), run_name="__main__")
        return stop.value.code or 0

    return run


def test_draws_files_folders_and_patterns(demo, run_folder, images, tmp_path, capsys):
    output = tmp_path / "out"
    config = run_folder / "config.yaml"
    pattern = tmp_path / "mor?" / "*.png"
    assert demo("--config-file", config, "--input", images[0].parent, pattern, "--output", output,
                "--slots") == 0  # fmt: skip
    assert sorted(os.listdir(output)) == [
        "a_2_segments.png",
        "a_2_slots.png",
        "a_segments.png",
        "a_slots.png",
        "b_segments.png",
        "b_slots.png",
    ]
    with Image.open(output / "a_segments.png") as picture:
        assert picture.size == (512, 512)
    with Image.open(output / "a_slots.png") as picture:
        assert picture.size == (4 * 256 + 3 * 8, 256)
    assert "error" not in capsys.readouterr().err


def test_unreadable_images_are_named_and_the_others_drawn(
    demo, run_folder, images, tmp_path, capsys
):
    truncated = tmp_path / "cut.png"
    truncated.write_bytes(images[0].read_bytes()[:400])
    small = tmp_path / "small.png"
    Image.new("RGB", (20, 20)).save(small)
    output = tmp_path / "out"
    status = demo(
        "--config-file", run_folder / "config.yaml",
        "--input", truncated, tmp_path / "none.png", small, images[1], tmp_path / "*.gif",
        "--output", output,
    )  # fmt: skip
    assert status == 1
    assert os.listdir(output) == ["b_segments.png"]
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 4
    for name in ("cut.png", "none.png", "small.png", "*.gif"):
        assert sum(name in line for line in errors) == 1


def test_options_choose_weights_and_masks(demo, run_folder, images, tmp_path, capsys):
    arguments = ["--config-file", run_folder / "config.yaml", "--input", images[0]]
    weights = run_folder / "model_best.pth"
    assert demo(*arguments, "--output", tmp_path / "x", "OUTPUT_DIR", tmp_path / "empty",
                "MODEL.WEIGHTS", weights, "TEST.MASK_SOURCE", "attention", ) == 0  # fmt: skip
    assert os.listdir(tmp_path / "x") == ["a_segments.png"]
    assert demo(*arguments, "--output", tmp_path / "y", "OUTPUT_DIR", tmp_path / "empty") == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error:")
    assert "holds no checkpoint" in error
    assert not (tmp_path / "y").exists()


def test_both_levels_of_a_two_level_grouping(demo, run_folder, images, tmp_path, capsys):
    folder = tmp_path / "nested"
    two_levels = ["MODEL.SLOTS.GROUPING.NAME", "NestedSlotAttention",
                  "MODEL.SLOTS.GROUPING.SUB_SLOTS", 3]  # fmt: skip
    cfg = get_cfg(overrides=[*TINY, *two_levels, "OUTPUT_DIR", str(folder)])
    torch.manual_seed(0)
    SlotSegCheckpointer(build_model(cfg), str(folder)).save_weights("model_best")
    (folder / "config.yaml").write_text(cfg.dump())
    output = tmp_path / "out"
    arguments = ["--input", images[0], "--output", output, "--hierarchy"]
    assert demo("--config-file", folder / "config.yaml", *arguments) == 0
    assert sorted(os.listdir(output)) == ["a_hierarchy.png", "a_segments.png"]
    with Image.open(output / "a_hierarchy.png") as picture:
        assert picture.size == (4 * 256 + 3 * 8, 5 * 256 + 4 * 8)
    assert demo("--config-file", run_folder / "config.yaml", *arguments) == 1
    assert "--hierarchy: the model's slots have no parents" in capsys.readouterr().err


def test_the_image_as_the_model_draws_it(demo, run_folder, images, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ["--input", images[0], "--output", output, "--reconstruction"]
    assert demo("--config-file", run_folder / "config.yaml", *arguments) == 0
    assert sorted(os.listdir(output)) == ["a_reconstruction.png", "a_segments.png"]
    with Image.open(output / "a_reconstruction.png") as picture:
        assert picture.size == (2 * 512 + 8, 512)
    other = tmp_path / "product"
    # Segments of parents are drawn elsewhere, but they are no reconstruction.
    no_images = ["MODEL.DECODERS", ["MaskProductDecoder"], "LOSSES.RECONSTRUCTION.WEIGHT", 0.0,
                 "LOSSES.MASKS.WEIGHT", 1.0, "OUTPUT_DIR", str(other),
                 "MODEL.SLOTS.GROUPING.NAME", "NestedSlotAttention"]  # fmt: skip
    cfg = get_cfg(overrides=[*TINY, *no_images])
    SlotSegCheckpointer(build_model(cfg), str(other)).save_weights("model_best")
    (other / "config.yaml").write_text(cfg.dump())
    assert demo("--config-file", other / "config.yaml", *arguments) == 1
    told = "--reconstruction: SlotSeg with the decoders MaskProductDecoder draws no images"
    assert told in capsys.readouterr().err


def test_a_model_without_segments_shows_what_it_draws(demo, images, tmp_path, capsys):
    folder, output = tmp_path / "autoencoder", tmp_path / "out"
    small = ["MODEL.META_ARCHITECTURE", "LatentAutoencoder", "MODEL.AUTOENCODER.CHANNELS", [8],
             "MODEL.AUTOENCODER.NORM_GROUPS", 4, "MODEL.AUTOENCODER.PATCH", 4]  # fmt: skip
    cfg = get_cfg(overrides=[*TINY, *small, "OUTPUT_DIR", str(folder)])
    SlotSegCheckpointer(build_model(cfg), str(folder)).save_weights("model_best")
    (folder / "config.yaml").write_text(cfg.dump())
    arguments = ["--config-file", folder / "config.yaml", "--input", images[0], "--output", output]
    assert demo(*arguments) == 1
    assert "LatentAutoencoder makes no segments" in capsys.readouterr().err
    assert demo(*arguments, "--reconstruction") == 0
    assert os.listdir(output) == ["a_reconstruction.png"]


def test_inputs_are_never_overwritten(demo, run_folder, images, tmp_path, capsys):
    victim = images[0].with_name("a_segments.png")
    victim.write_bytes(images[0].read_bytes())
    before = victim.read_bytes()
    folder = images[0].parent
    config = run_folder / "config.yaml"
    assert demo("--config-file", config, "--input", folder, "--output", folder) == 1
    assert victim.read_bytes() == before
    assert "a_segments.png: is one of the inputs" in capsys.readouterr().err
    # The others were drawn, beside the inputs.
    assert (folder / "b_segments.png").is_file()


def test_nothing_to_draw_is_one_line(demo, run_folder, tmp_path, capsys):
    config = run_folder / "config.yaml"
    assert demo("--config-file", config, "--input", tmp_path, "--output", tmp_path / "out") == 1
    errors = capsys.readouterr().err.splitlines()
    assert all(line.startswith("error:") for line in errors)
    assert "no image to draw" in errors[-1]


def test_runs_from_anywhere(project_root, run_folder, images, tmp_path):
    command = [sys.executable, project_root / "tools" / "demo.py", "--config-file"]
    command += [run_folder / "config.yaml", "--input", images[1].name, "--output", "drawn"]
    done = subprocess.run(
        command, cwd=images[1].parent, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (images[1].parent / "drawn" / "b_segments.png").is_file()


def test_find_images_takes_each_once_in_order(images, tmp_path):
    files, problems = find_images([str(images[1]), str(images[0].parent), str(images[1])])
    assert files == [str(images[1]), str(images[0])]
    assert problems == []
    (tmp_path / "in" / "notes.txt").write_text("x")
    assert find_images([str(tmp_path / "in")])[0] == [str(images[0]), str(images[1])]


def test_output_names_do_not_collide():
    names = output_names(["x/a.png", "y/a.jpg", "z/a_2.png", "a"])
    assert [name for _, name in names] == ["a", "a_2", "a_2_2", "a_3"]
