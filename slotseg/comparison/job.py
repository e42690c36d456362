"""One process of a comparison: ``python -m slotseg.comparison.job PHASE FOLDER``.

The phase ``score`` trains if asked, and scores; ``measure`` times inference; ``memory`` looks at
the memory of a training step; ``train`` trains as the config says and scores nothing. Each reads
``FOLDER/job.json`` and writes ``FOLDER/<phase>.json`` when it is done, or ``FOLDER/<phase>.failed``
with the reason in one line. A phase that is done is not started again; an interrupted training
goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager
from torch import nn

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2
from slotseg.comparison.measure import (
    count_parameters,
    load_single_images,
    peak_memory_mib,
    seconds_an_image,
)
from slotseg.comparison.plan import AS_BUILT, JOB_FILE, Job, failure_file, phase_file
from slotseg.comparison.records import CURVE_SCORES
from slotseg.comparison.step_memory import training_step_memory_mib
from slotseg.engine.checkpoint import FINAL, load_weights, weights_for_inference
from slotseg.engine.cli import INTERRUPTED, one_line
from slotseg.engine.clocks import PROCESSOR, WALL
from slotseg.engine.commands import train
from slotseg.engine.defaults import available_device, default_setup
from slotseg.engine.hooks.run_record import read_run_record
from slotseg.engine.results import RESULTS_FILE, write_results
from slotseg.engine.rng import seed_all
from slotseg.engine.run_info import machine
from slotseg.engine.time_budget import fit_to_steps, fit_to_time, measure_step_seconds
from slotseg.engine.trainer import Trainer
from slotseg.errors import DatasetError, SlotSegError
from slotseg.files import write_atomically
from slotseg.visualization.run_folder import Curve, read_run_folder

# How long the time of a step is measured: this share of the training, but at least and at most so
# many seconds.
_MEASURED_SHARE = 0.025
_MEASURED_SECONDS = (15.0, 90.0)


def score(job: Job) -> dict[str, Any]:
    """Train as long as the job says, or load weights; then score."""
    cfg = job.config()
    cfg.MODEL.DEVICE = available_device(cfg.MODEL.DEVICE)
    if job.trains:
        cfg = _fit(cfg, job)
        default_setup(cfg, argparse.Namespace())
        train(cfg, resume=True)
    else:
        cfg.freeze()
        default_setup(cfg, argparse.Namespace(eval_only=True))
        results = Trainer.test(cfg, _model(cfg, job))
        write_results(results, os.path.join(cfg.OUTPUT_DIR, RESULTS_FILE))
    with PathManager.open(os.path.join(cfg.OUTPUT_DIR, RESULTS_FILE), "r") as file:
        results = json.load(file)
    run = read_run_record(cfg.OUTPUT_DIR)
    device = torch.device(cfg.MODEL.DEVICE)
    steps = run.get("iterations")
    seconds = {name: run.get(f"{key}_seconds") for name, key in _RECORDED.items()}
    of_a_step = {name: s / steps if steps and s else None for name, s in seconds.items()}
    return {
        "scores": results[cfg.DATASETS.TEST[0]],
        "steps": steps,
        "train_seconds": seconds[WALL],
        "step_seconds": of_a_step[WALL],
        "train_processor_seconds": seconds[PROCESSOR],
        "step_processor_seconds": of_a_step[PROCESSOR],
        "train_memory_mib": peak_memory_mib(device) if job.trains else None,
        "clock": job.clock,
        "curve": _curve(cfg.OUTPUT_DIR, of_a_step[job.clock]) if of_a_step[job.clock] else [],
        "machine": machine(device),
    }


def measure(job: Job) -> dict[str, Any]:
    """Time inference and look at its memory, in a process that has done nothing else."""
    cfg = job.config()
    cfg.MODEL.DEVICE = available_device(cfg.MODEL.DEVICE)
    cfg.freeze()
    seed_all(job.seed)
    model = _model(cfg, job)
    items = load_single_images(cfg, cfg.DATASETS.TEST[0], job.speed_images)
    seconds, processor = seconds_an_image(model, items, job.speed_images)
    height, width = items[0]["image"].shape[-2:]
    return {
        "parameters": count_parameters(model),
        "trained_parameters": count_parameters(model, trained=True),
        "seconds_an_image": seconds,
        "processor_seconds_an_image": processor,
        "inference_memory_mib": peak_memory_mib(torch.device(cfg.MODEL.DEVICE)),
        "input_size": [int(height), int(width)],
    }


def train_only(job: Job) -> dict[str, Any]:
    """Train exactly as the config says: what makes weights for other models has no score."""
    cfg = job.config()
    cfg.MODEL.DEVICE = available_device(cfg.MODEL.DEVICE)
    cfg.freeze()
    default_setup(cfg, argparse.Namespace())
    train(cfg, resume=True)
    run = read_run_record(cfg.OUTPUT_DIR)
    return {
        "steps": run.get("iterations"),
        "train_seconds": run.get("train_seconds"),
        "parameters": run.get("parameters"),
        "machine": machine(torch.device(cfg.MODEL.DEVICE)),
    }


def memory(job: Job) -> dict[str, Any]:
    """Memory of a training step on one image, in a process that has done nothing else."""
    cfg = job.config()
    cfg.MODEL.DEVICE = available_device(cfg.MODEL.DEVICE)
    return {
        "step_memory_mib": training_step_memory_mib(cfg, job.memory_size),
        "memory_size": list(job.memory_size),
        "machine": machine(torch.device(cfg.MODEL.DEVICE)),
    }


# Clock -> what the run's record calls the seconds of its training steps.
_RECORDED = {WALL: "train", PROCESSOR: "processor"}

_WORK: dict[str, Callable[[Job], dict[str, Any]]] = {
    "score": score,
    "measure": measure,
    "memory": memory,
    "train": train_only,
}


def run_phase(phase: str, folder: str) -> int:
    """Run a phase of the job in ``folder``; its exit status."""
    with PathManager.open(os.path.join(folder, JOB_FILE), "r") as file:
        job = Job.loads(file.read())
    # The command that a user can repeat goes into the run's records, not this process's own.
    sys.argv = shlex.split(job.command) or sys.argv
    try:
        result = _WORK[phase](job)
    except SlotSegError as error:
        write_atomically(failure_file(folder, phase), one_line(error))
        return 1
    except Exception as error:
        # A defect of one model must not end the comparison; its traceback goes to the log.
        reason = f"{type(error).__name__}: {one_line(error)}"
        write_atomically(failure_file(folder, phase), reason)
        raise
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    result |= {"date": now, "command": job.command, "seed": job.seed}
    write_atomically(phase_file(folder, phase), json.dumps(result, indent=2) + "\n")
    return 0


def _fit(cfg: CfgNode, job: Job) -> CfgNode:
    """All seeds take the same number of steps, also after an interruption."""
    if job.steps is not None:
        return fit_to_steps(cfg, job.steps, evaluations=job.evaluations)
    if not PathManager.isfile(job.budget_file):
        shortest, longest = _MEASURED_SECONDS
        least = min(max(_MEASURED_SHARE * 60 * job.minutes, shortest), longest)
        # A training shorter than the measurement needs no better one.
        least = min(least, 60 * job.minutes)
        seconds = measure_step_seconds(
            cfg, min_seconds=least, max_seconds=max(60.0, 2 * least), clock_name=job.clock
        )
        _note_once(job.budget_file, {"step_seconds": seconds})
    with PathManager.open(job.budget_file, "r") as file:
        seconds = float(json.load(file)["step_seconds"])
    return fit_to_time(cfg, job.minutes, seconds, evaluations=job.evaluations)


def _note_once(path: str, content: dict[str, Any]) -> None:
    """Write a small file unless it is there: of seeds that run at once, the first one decides."""
    own = f"{path}.{os.getpid()}"
    write_atomically(own, json.dumps(content) + "\n")
    try:
        os.link(own, path)
    except FileExistsError:
        pass
    except OSError:
        # A file system without links: seeds that measure at once may differ by some steps.
        os.replace(own, path)
    finally:
        with suppress(FileNotFoundError):
            os.remove(own)


def _model(cfg: CfgNode, job: Job) -> nn.Module:
    model = Trainer.build_model(cfg)
    if job.trains:
        load_weights(model, os.path.join(job.folder, f"{FINAL}.pth"))
    elif job.weights != AS_BUILT:
        load_weights(
            model,
            _given_weights(cfg, job),
            trust_pickle=cfg.MODEL.TRUST_PICKLE,
            weights_of=cfg.TEST.WEIGHTS_OF,
        )
    return model


def _given_weights(cfg: CfgNode, job: Job) -> str:
    own = cfg.clone()
    own.defrost()
    own.MODEL.WEIGHTS, own.OUTPUT_DIR = job.weights, job.trained_in
    return weights_for_inference(own)


def _curve(folder: str, step_seconds: float) -> list[dict[str, Any]]:
    """Scores of every evaluation in training, with the seconds that the steps took until then.

    All steps count the same, since they do the same work.
    """
    try:
        curves = read_run_folder(folder).curves
    except DatasetError:
        return []
    points: dict[int, dict[str, Any]] = {}
    for key in CURVE_SCORES:
        curve = curves.get(key, Curve([], []))
        name = key.partition("/")[2]
        for iteration, value in zip(curve.iterations, curve.values, strict=True):
            point = points.setdefault(iteration, {"seconds": (iteration + 1) * step_seconds})
            point[name] = value
    return [points[iteration] for iteration in sorted(points)]


def _end_with_parent() -> None:
    """Leave when standard input ends, which is when the process that holds its other end is gone.

    Otherwise a comparison that is killed would leave a training behind, and the next one would
    start a second in the same folder.
    """

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os._exit(INTERRUPTED)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Run the phase that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("phase", choices=tuple(_WORK))
    parser.add_argument("folder")
    parser.add_argument(
        "--end-with-parent", action="store_true", help="leave when standard input ends"
    )
    args = parser.parse_args()
    if args.end_with_parent:
        _end_with_parent()
    sys.exit(run_phase(args.phase, args.folder))


if __name__ == "__main__":
    main()
