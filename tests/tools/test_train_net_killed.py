"""A run that is killed for real, again and again, ends with the same bits: also its teacher, which
labels half of the images, and the ranking of the others by their losses.
"""

import json
import os
import random
import signal
import time

import torch

OPTIONS = (
    *("SOLVER.MAX_ITER", "24", "SOLVER.CHECKPOINT_PERIOD", "2", "TEST.EVAL_PERIOD", "5"),
    *("SOLVER.AMP.ENABLED", "True"),
    *("MEAN_TEACHER.ENABLED", "True", "DATASETS.LABELED_IMAGES", "5", "SEMI.IMS_PER_BATCH", "2"),
    *("SEMI.START", "3", "SEMI.RAMP", "9", "PSEUDO_LABELS.MAX_UNCERTAINTY", "1.0"),
    *("PSEUDO_LABELS.MIN_CONFIDENCE_THINGS", "0.1", "MIXING.CUTMIX.PROBABILITY", "0.5"),
    # Measured in iterations 4, 8, 12 and 16.
    *("CURRICULUM.DIFFICULTY", "loss", "CURRICULUM.PERIOD", "4", "CURRICULUM.END_ITER", "20"),
)
STATES = ("model", "teacher", "optimizer", "scheduler", "rng", "iteration")


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def wait_for_a_new_checkpoint(run, folder):
    tag = folder / "last_checkpoint"
    before, began = tag.read_text(), time.monotonic()
    while tag.read_text() == before:
        assert run.process.is_alive() and time.monotonic() - began < 60, run.err
        time.sleep(0.005)


def test_killed_runs_end_with_the_same_bits(train_net, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    # With a data worker here and none below: the order of images does not depend on it.
    run = train_net(*OPTIONS, "DATALOADER.NUM_WORKERS", "1", "OUTPUT_DIR", "whole")
    assert run.finish() == 0, run.err

    # In the middle of writing run.json, checkpoints, the name of the last one, the best model ...
    for die_at in (1, 9, 12, 17, 20):
        run = train_net("--resume", *OPTIONS, "OUTPUT_DIR", "killed", die_at=die_at)
        assert run.finish() == -signal.SIGKILL, run.err
    # ... and at any time.
    chance = random.Random(0)
    for _ in range(2):
        run = train_net("--resume", *OPTIONS, "OUTPUT_DIR", "killed")
        wait_for_a_new_checkpoint(run, killed)
        time.sleep(chance.uniform(0.0, 0.1))
        run.kill()
        assert run.finish() == -signal.SIGKILL
    run = train_net("--resume", *OPTIONS, "OUTPUT_DIR", "killed")
    assert run.finish() == 0, run.err

    expected, got = (
        torch.load(folder / "model_final.pth", weights_only=True) for folder in (whole, killed)
    )
    for key in STATES:
        assert equal(expected[key], got[key]), key
    hooks = [checkpoint["trainer"]["hooks"] for checkpoint in (expected, got)]
    for key in ("MeanTeacher#0", "Curriculum#0"):
        assert hooks[0][key] and equal(hooks[0][key], hooks[1][key]), key
    scores, killed_scores = (json.loads((f / "results.json").read_text()) for f in (whole, killed))
    assert scores == killed_scores
    assert not [name for name in os.listdir(killed) if ".partial" in name]
    looks = (killed / "monitor.jsonl").read_text().splitlines()
    logged = [json.loads(line)["iteration"] for line in looks]
    assert logged == sorted(set(logged))
    record = json.loads((killed / "run.json").read_text())
    assert record["iterations"] == 24 and record["finished"]
