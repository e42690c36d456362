"""One process of a comparison: ``python -m slotseg.comparison.job PHASE FOLDER``.

The phase ``score`` trains if asked, and scores; ``measure`` times inference. Each reads
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
from collections.abc import Callable
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
from slotseg.comparison.plan import AS_BUILT, JOB_FILE, PHASES, Job, failure_file, phase_file
from slotseg.engine.checkpoint import FINAL, load_weights, weights_for_inference
from slotseg.engine.cli import one_line
from slotseg.engine.commands import train
from slotseg.engine.defaults import available_device, default_setup
from slotseg.engine.hooks.run_record import read_run_record
from slotseg.engine.results import RESULTS_FILE, write_results
from slotseg.engine.rng import seed_all
from slotseg.engine.run_info import machine
from slotseg.engine.time_budget import fit_to_time, measure_step_seconds
from slotseg.engine.trainer import Trainer
from slotseg.errors import DatasetError, SlotSegError
from slotseg.files import write_atomically
from slotseg.visualization.run_folder import Curve, read_run_folder


def score(job: Job) -> dict[str, Any]:
    """Train as long as the job says, or load weights; then score."""
    cfg = job.config()
    cfg.MODEL.DEVICE = available_device(cfg.MODEL.DEVICE)
    if job.minutes is not None:
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
    steps, seconds = run.get("iterations"), run.get("train_seconds")
    return {
        "scores": results[cfg.DATASETS.TEST[0]],
        "steps": steps,
        "train_seconds": seconds,
        "step_seconds": seconds / steps if steps and seconds else None,
        "train_memory_mib": peak_memory_mib(device) if job.minutes is not None else None,
        "curve": _curve(cfg.OUTPUT_DIR, seconds / steps) if steps and seconds else [],
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
    seconds = seconds_an_image(model, items, job.speed_images)
    height, width = items[0]["image"].shape[-2:]
    return {
        "parameters": count_parameters(model),
        "seconds_an_image": seconds,
        "inference_memory_mib": peak_memory_mib(torch.device(cfg.MODEL.DEVICE)),
        "input_size": [int(height), int(width)],
    }


_WORK: dict[str, Callable[[Job], dict[str, Any]]] = {"score": score, "measure": measure}


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
    if PathManager.isfile(job.budget_file):
        with PathManager.open(job.budget_file, "r") as file:
            seconds = float(json.load(file)["step_seconds"])
    else:
        seconds = measure_step_seconds(cfg)
        write_atomically(job.budget_file, json.dumps({"step_seconds": seconds}) + "\n")
    return fit_to_time(cfg, job.minutes, seconds, evaluations=job.evaluations)


def _model(cfg: CfgNode, job: Job) -> nn.Module:
    model = Trainer.build_model(cfg)
    if job.minutes is not None:
        load_weights(model, os.path.join(job.folder, f"{FINAL}.pth"))
    elif job.weights != AS_BUILT:
        load_weights(model, _given_weights(cfg, job), trust_pickle=cfg.MODEL.TRUST_PICKLE)
    return model


def _given_weights(cfg: CfgNode, job: Job) -> str:
    own = cfg.clone()
    own.defrost()
    own.MODEL.WEIGHTS, own.OUTPUT_DIR = job.weights, job.trained_in
    return weights_for_inference(own)


def _curve(folder: str, step_seconds: float) -> list[dict[str, Any]]:
    """Scores of every evaluation in training, with the seconds that the steps took until then."""
    try:
        curves = read_run_folder(folder).curves
    except DatasetError:
        return []
    points: dict[int, dict[str, Any]] = {}
    for task, name in (("panoptic", "PQ"), ("slots", "ARI")):
        curve = curves.get(f"{task}/{name}", Curve([], []))
        for iteration, value in zip(curve.iterations, curve.values, strict=True):
            point = points.setdefault(iteration, {"seconds": (iteration + 1) * step_seconds})
            point[name] = value
    return [points[iteration] for iteration in sorted(points)]


def main() -> None:
    """Run the phase that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("phase", choices=PHASES)
    parser.add_argument("folder")
    args = parser.parse_args()
    sys.exit(run_phase(args.phase, args.folder))


if __name__ == "__main__":
    main()
