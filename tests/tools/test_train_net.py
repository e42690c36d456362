"""The command line from start to end: train, get killed, resume, score."""

import json
import time

import pytest


def test_train_kill_resume_score(train_net, tmp_path):
    folder = tmp_path / "out"
    options = ("OUTPUT_DIR", "out", "SOLVER.MAX_ITER", "300", "SOLVER.CHECKPOINT_PERIOD", "5")
    run = train_net(*options, "TEST.EVAL_PERIOD", "500")
    began = time.monotonic()
    while not (folder / "last_checkpoint").exists():
        assert run.process.is_alive() and time.monotonic() - began < 60, run.err
        time.sleep(0.01)
    run.kill()
    run.finish()
    assert not (folder / "results.json").exists()
    reached = int((folder / "last_checkpoint").read_text()[len("model_") : -len(".pth")])

    end = str(reached + 11)
    options = ("OUTPUT_DIR", "out", "SOLVER.MAX_ITER", end)
    run = train_net("--resume", *options)
    assert run.finish() == 0, run.err
    assert f"Training from iteration {reached + 1} to {end}" in run.out
    # Not a terminal: lines in place of a bar.
    assert "eta: " in run.out and "it/s" not in run.err
    scores = json.loads((folder / "results.json").read_text())["clevr_generated_val"]["slots"]

    run = train_net("--eval-only", *options)
    assert run.finish() == 0, run.err
    assert "model_best.pth" in run.out and "slots/ARI" in run.out
    run = train_net("--eval-only", *options, "MODEL.WEIGHTS", folder / "model_final.pth")
    assert run.finish() == 0, run.err
    again = json.loads((folder / "eval_only" / "results.json").read_text())
    assert again["clevr_generated_val"]["slots"] == pytest.approx(scores, nan_ok=True)

    run = train_net("--resume", *options)
    assert run.finish() == 0, run.err
    assert "the run is finished" in run.out and "parameters" not in run.out
    run = train_net(*options)
    assert run.finish() == 1
    assert "add --resume" in run.err


@pytest.mark.parametrize(
    ("options", "keys", "message"),
    [
        ([], ["SOLVER.BASE_LRR", "1"], "SOLVER.BASE_LRR; did you mean SOLVER.BASE_LR"),
        (["--eval-only"], [], "out: holds no checkpoint; set MODEL.WEIGHTS"),
        (["--eval-only"], ["DATASETS.TEST", "()"], "DATASETS.TEST: empty"),
        ([], ["DATASETS.TRAIN", "('clevr_train',)"], "clevr_train"),
        ([], ["SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", "float16"], "use bfloat16"),
    ],
)
def test_mistakes_are_one_line(train_net, options, keys, message):
    run = train_net(*options, "OUTPUT_DIR", "out", *keys)
    assert run.finish() == 1
    (line,) = [line for line in run.err.splitlines() if line.startswith("error: ")]
    assert message in line
    assert "Traceback" not in run.err


def test_device_falls_back_to_the_cpu(train_net, tmp_path, tiny_config):
    run = train_net(
        *("--num-gpus", "1", "OUTPUT_DIR", "out", "MODEL.DEVICE", "cuda", "SOLVER.MAX_ITER", "1"),
        environment={"CUDA_VISIBLE_DEVICES": ""},
    )
    assert run.finish() == 0, run.err
    assert run.out.count("CUDA is not available here: using the CPU") == 1
    assert "DEVICE: cpu" in (tmp_path / "out" / "config.yaml").read_text()
