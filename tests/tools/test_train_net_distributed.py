"""Two processes on the CPU train one model."""

import json
import socket

import torch

OPTIONS = (
    *("SOLVER.MAX_ITER", "4", "SOLVER.CHECKPOINT_PERIOD", "2", "TEST.EVAL_PERIOD", "2"),
    *("OUTPUT_DIR", "two"),
    *("MEAN_TEACHER.ENABLED", "True", "DATASETS.LABELED_IMAGES", "5", "SEMI.IMS_PER_BATCH", "2"),
    *("SEMI.START", "1", "SEMI.RAMP", "0", "PSEUDO_LABELS.MAX_UNCERTAINTY", "1.0"),
    *("PSEUDO_LABELS.MIN_CONFIDENCE_THINGS", "0.1"),
)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def run_two(train_net, *arguments):
    """As torchrun starts them."""
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    runs = [
        train_net(*arguments, *OPTIONS, environment={**shared, "RANK": rank, "LOCAL_RANK": rank})
        for rank in ("0", "1")
    ]
    for run in runs:
        assert run.finish() == 0, run.err
    return runs


def test_two_processes_train_and_resume(train_net, tmp_path):
    run_two(train_net)
    output = tmp_path / "two"
    saved = torch.load(output / "model_final.pth", weights_only=True)
    # Each process has a generator of its own.
    assert len(saved["rng"]) == 2
    assert not torch.equal(saved["rng"][0]["torch"], saved["rng"][1]["torch"])
    results = json.loads((output / "results.json").read_text())
    assert results["clevr_generated_val"]["slots"]["images"] == 5
    assert json.loads((output / "run.json").read_text())["processes"] == 2
    # Lose the end of the run, and go on from the middle.
    (output / "model_final.pth").unlink()
    (output / "results.json").unlink()
    main, other = run_two(train_net, "--resume")
    assert "Training from iteration 2 to 4" in main.out
    # Only the main process talks.
    assert other.out == ""
    again = torch.load(output / "model_final.pth", weights_only=True)
    for whose in ("model", "teacher"):
        assert all(torch.equal(saved[whose][key], again[whose][key]) for key in saved[whose])


def test_processes_that_it_starts_itself_fail_without_traceback(train_net, tmp_path):
    run = train_net("--num-gpus", "2", *OPTIONS, "MODEL.WEIGHTS", "nowhere.pth")
    assert run.finish() == 1
    assert "error: nowhere.pth: no such checkpoint" in run.err
    assert "Traceback" not in run.err
