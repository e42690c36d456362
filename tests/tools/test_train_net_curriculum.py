"""A curriculum by the model's own loss survives kills, and works on several processes."""

import csv
import json
import signal
import socket

import torch

OPTIONS = (
    *("CURRICULUM.DIFFICULTY", "loss", "CURRICULUM.PERIOD", "3", "CURRICULUM.END_ITER", "7"),
    *("CURRICULUM.START_SHARE", "0.4", "SOLVER.MAX_ITER", "8", "SOLVER.CHECKPOINT_PERIOD", "2"),
    *("SLOT_MONITOR.IMAGES", "0", "PICTURES.IMAGES", "0", "DATASETS.TEST", "()"),
)


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def final_state(folder):
    state = torch.load(folder / "model_final.pth", weights_only=True)
    rankings = state["trainer"]["hooks"]["Curriculum#0"]
    return {key: state[key] for key in ("model", "optimizer", "rng")} | {"rankings": rankings}


def difficulties(folder):
    with open(folder / "image_difficulty.csv") as file:
        return [float(row["difficulty"]) for row in csv.DictReader(file)]


def test_killed_runs_end_with_the_same_bits(train_net, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert train_net(*OPTIONS, "OUTPUT_DIR", whole).finish() == 0
    # In the middle of writing checkpoints, or of the list that every measurement leaves.
    for die_at in (13, 12):
        run = train_net("--resume", *OPTIONS, "OUTPUT_DIR", killed, die_at=die_at)
        assert run.finish() == -signal.SIGKILL, run.err
    run = train_net("--resume", *OPTIONS, "OUTPUT_DIR", killed)
    assert run.finish() == 0, run.err
    assert "Training from iteration 0 to" not in run.out
    assert equal(final_state(whole), final_state(killed))
    assert final_state(killed)["rankings"]["since"][-1] == 6
    assert difficulties(whole) == difficulties(killed)


def test_two_processes_measure_their_parts(train_net, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    runs = [
        train_net(
            *OPTIONS,
            *("SOLVER.MAX_ITER", "5", "CURRICULUM.END_ITER", "4", "OUTPUT_DIR", "two"),
            environment={**shared, "RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in ("0", "1")
    ]
    for run in runs:
        assert run.finish() == 0, run.err
    listed = difficulties(tmp_path / "two")
    assert len(listed) == 10 and listed == sorted(listed, reverse=True) and listed[-1] > 0
    lines = (tmp_path / "two" / "metrics.json").read_text().splitlines()
    assert json.loads(lines[-1])["curriculum/share"] == 1.0
