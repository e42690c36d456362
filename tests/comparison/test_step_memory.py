"""Memory of a training step, and the processes that measure it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from detectron2.modeling import build_model

from slotseg.comparison import make_plan
from slotseg.comparison.plan import JOB_FILE
from slotseg.comparison.runner import run_side_by_side
from slotseg.comparison.step_memory import noise_batch
from slotseg.config import get_cfg


def test_a_batch_of_noise_is_what_a_model_with_classes_takes(tiny_config):
    cfg = get_cfg(tiny_config)
    (item,) = noise_batch(cfg, (40, 72))
    assert item["image"].shape == (3, 40, 72)
    assert item["segment_map"].unique().tolist() == list(range(8))
    losses = build_model(cfg).train()([item])
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_memory_grows_with_the_image_and_not_with_the_libraries(tiny_config, tmp_path, monkeypatch):
    """In two processes at once, each with its part of the cores."""
    monkeypatch.setattr("slotseg.comparison.runner._cores", lambda: 4)
    jobs = make_plan([tiny_config], str(tmp_path), minutes=1.0, seeds=[0, 1]).jobs
    jobs = [
        replace(job, memory_size=size)
        for job, size in zip(jobs, [(64, 64), (512, 512)], strict=True)
    ]
    done = run_side_by_side(jobs, "memory", processes=2)
    assert {job.folder for job in done} == {job.folder for job in jobs}
    small, large = (json.loads(Path(job.folder, "memory.json").read_text()) for job in jobs)
    # Maps at stride 2 of a few channels; the interpreter and its libraries would be 300 and more.
    assert 10 < large["step_memory_mib"] < 250
    assert small["step_memory_mib"] < large["step_memory_mib"] / 2
    assert large["memory_size"] == [512, 512]
    assert large["machine"]["threads"] == 2


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
        assert process.wait(60) == 130
    finally:
        process.kill()


def test_whoever_stops_waiting_ends_what_runs(tiny_config, tmp_path, monkeypatch):
    """Jobs are a shell script here, that of seed 1 a long one."""
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\ncase "$4" in *seed1) echo $$ > "$4/pid"; exec sleep 600;; esac\n')
    script.chmod(0o755)
    monkeypatch.setattr("slotseg.comparison.runner.sys.executable", str(script))
    jobs = make_plan([tiny_config], str(tmp_path), minutes=1.0, seeds=[0, 1]).jobs
    pid = Path(jobs[1].folder, "pid")
    waiting = run_side_by_side(jobs, "score", processes=2)
    began = time.monotonic()
    assert next(waiting).seed == 0
    while not pid.exists() or not pid.read_text():
        time.sleep(0.01)
    waiting.close()
    assert time.monotonic() - began < 300
    assert "ended with signal 15" in Path(jobs[1].folder, "score.failed").read_text()
    assert not Path("/proc", pid.read_text().strip()).exists()
