"""The runs of a study as commands for other machines."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from typing import Any

from detectron2.config import CfgNode

from slotseg.ablation.plan import PHASE, StudyPlan
from slotseg.comparison.identity import file_name
from slotseg.comparison.plan import Job, phase_file
from slotseg.engine.commands import is_finished
from slotseg.engine.time_budget import fit_to_steps
from slotseg.errors import ConfigError

TORCHRUN, SLURM = "torchrun", "slurm"


def launch_commands(
    plan: StudyPlan, launcher: str, *, train_tool: str, num_gpus: int = 1
) -> Iterator[str]:
    """One line of shell for every run that is not finished, in the order of the plan.

    Each trains in the folder where the study looks for it, so that the study's own command, given
    once the runs are over, only reads their scores. All may be given again to go on with what was
    interrupted.

    Args:
        plan: from :func:`slotseg.ablation.plan.make_study_plan`, with a number of steps.
        launcher: "torchrun", or "slurm" for an ``sbatch`` that runs it. Partition, account and
            time are for the variables that ``sbatch`` reads, such as ``SBATCH_PARTITION``.
        train_tool: path of ``train_net.py``.
        num_gpus: of each run, one process each; 0: one process on the CPU.

    Raises:
        ConfigError: the plan counts minutes, which only the machine itself can turn into steps; or
            an unknown launcher.
    """
    if launcher not in (TORCHRUN, SLURM):
        raise ConfigError(
            f"--print-commands: unknown launcher {launcher!r}; choose {TORCHRUN} or {SLURM}"
        )
    if plan.minutes is not None:
        raise ConfigError(
            "--print-commands: how many steps fit into --train-minutes is measured where they are "
            "made; give --steps"
        )
    if num_gpus < 0:
        raise ConfigError(f"--num-gpus: must be at least 0, got {num_gpus}")
    for job in plan.jobs:
        if _is_over(job):
            continue
        command = torchrun_command(job, train_tool, num_gpus)
        yield command if launcher == TORCHRUN else _sbatch(job, command, num_gpus)


def fitted_config(job: Job) -> CfgNode:
    """The config that a job of a number of steps trains with, but for the device."""
    return fit_to_steps(job.config(), job.steps, evaluations=job.evaluations)


def torchrun_command(job: Job, train_tool: str, num_gpus: int) -> str:
    """Train one job as :mod:`slotseg.comparison.job` would."""
    plain, fitted = _leaves(job.config()), _leaves(fitted_config(job))
    settings = {key: value for key, value in fitted.items() if value != plain[key]}
    settings |= {"SEED": job.seed, "OUTPUT_DIR": job.folder}
    words = [
        *("torchrun", "--standalone", "--nproc_per_node", max(1, num_gpus), train_tool),
        *("--config-file", job.config_file, "--num-gpus", num_gpus, "--resume"),
        *job.overrides,
        *(part for pair in settings.items() for part in pair),
    ]
    return shlex.join(map(str, words))


def _sbatch(job: Job, command: str, num_gpus: int) -> str:
    words = [
        *("sbatch", "--job-name", file_name(f"{job.name}-seed{job.seed}"), "--nodes", "1"),
        *(("--gpus-per-node", str(num_gpus)) if num_gpus else ()),
        *("--output", os.path.join(job.folder, "slurm-%j.txt"), "--wrap", command),
    ]
    # Slurm makes the file of the output, but no folder for it.
    return f"mkdir -p {shlex.quote(job.folder)} && {shlex.join(words)}"


def _is_over(job: Job) -> bool:
    return os.path.isfile(phase_file(job.folder, PHASE)) or is_finished(fitted_config(job))


def _leaves(node: CfgNode, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in node.items():
        path = f"{prefix}{key}"
        found |= _leaves(value, f"{path}.") if isinstance(value, CfgNode) else {path: value}
    return found
