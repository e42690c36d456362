"""Memory of a training step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from detectron2.modeling import build_model

from slotseg.comparison import make_plan
from slotseg.comparison.plan import JOB_FILE
from slotseg.comparison.step_memory import noise_batch
from slotseg.config import get_cfg


def test_a_batch_of_noise_is_what_a_model_with_classes_takes(tiny_config):
    cfg = get_cfg(tiny_config)
    (item,) = noise_batch(cfg, (40, 72))
    assert item["image"].shape == (3, 40, 72)
    assert item["segment_map"].unique().tolist() == list(range(8))
    losses = build_model(cfg).train()([item])
    assert all(torch.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize("size", [(256, 256)])
def test_memory_grows_with_the_image_and_not_with_the_libraries(tiny_config, tmp_path, size):
    """In a process of its own; the activations of the first layers alone are a lower bound."""
    (only,) = make_plan([tiny_config], str(tmp_path), minutes=1.0).jobs
    only = replace(only, memory_size=size)
    os.makedirs(only.folder)
    with open(os.path.join(only.folder, JOB_FILE), "w") as file:
        file.write(only.dumps())
    command = [sys.executable, "-m", "slotseg.comparison.job", "memory", only.folder]
    subprocess.run(command, check=True, capture_output=True)
    with open(os.path.join(only.folder, "memory.json")) as file:
        found = json.load(file)
    # Masks and maps at stride 2 take a few MiB; the interpreter would be 300 and more.
    assert 2 < found["step_memory_mib"] < 150
    assert found["memory_size"] == list(size)


def test_a_process_ends_with_who_started_it(tiny_config, tmp_path):
    (only,) = make_plan([tiny_config], str(tmp_path), minutes=100.0).jobs
    os.makedirs(only.folder)
    with open(os.path.join(only.folder, JOB_FILE), "w") as file:
        file.write(only.dumps())
    process = subprocess.Popen(
        [sys.executable, "-m", "slotseg.comparison.job", "score", only.folder, "--end-with-parent"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        process.stdin.close()
        began = time.monotonic()
        assert process.wait(60) == 130
        assert time.monotonic() - began < 60
    finally:
        process.kill()
