"""Running the jobs of a comparison, each in processes of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from detectron2.utils.file_io import PathManager
from tqdm import tqdm

import slotseg
from slotseg.comparison.plan import JOB_FILE, PHASES, Job, Plan, failure_file, phase_file
from slotseg.files import write_atomically

LOG_FILE = "output.txt"


def run_jobs(plan: Plan) -> Iterator[Job]:
    """Run what is not done yet, one process after the other, and yield each job when it is over.

    Whether it worked is in its folder. One that fails does not stop the others.
    """
    steps = [(job, phase) for job in plan.jobs for phase in PHASES]
    with tqdm(total=len(steps), desc="comparing", unit="process", disable=None) as bar:
        for job in plan.jobs:
            for phase in PHASES:
                bar.set_postfix_str(f"{job.name} seed {job.seed}: {phase}")
                if not run_phase_in_process(job, phase):
                    break
                bar.update()
            yield job


def run_phase_in_process(job: Job, phase: str) -> bool:
    """Run one phase unless it is done; whether it is done now.

    The process's output goes to ``output.txt`` in the job's folder; on a terminal its progress
    bars are shown.
    """
    if PathManager.isfile(phase_file(job.folder, phase)):
        return True
    PathManager.mkdirs(job.folder)
    failed = failure_file(job.folder, phase)
    if PathManager.isfile(failed):
        PathManager.rm(failed)
    write_atomically(os.path.join(job.folder, JOB_FILE), job.dumps())
    log = os.path.join(job.folder, LOG_FILE)
    status = _run_process(phase, job.folder, log)
    if status == 0 and PathManager.isfile(phase_file(job.folder, phase)):
        return True
    if not PathManager.isfile(failed):
        write_atomically(failed, f"{_cause(status)}; see {log}")
    return False


def _run_process(phase: str, folder: str, log: str) -> int:
    """The exit status, negative for a signal."""
    with open(log, "a", encoding="utf-8") as file:
        return subprocess.run(
            [sys.executable, "-m", "slotseg.comparison.job", phase, folder],
            stdout=file,
            stderr=None if sys.stderr.isatty() else file,
            env=_environment(),
            check=False,
        ).returncode


def _environment() -> dict[str, str]:
    """This process's, with the SlotSeg that is running here in front."""
    own = str(Path(slotseg.__file__).resolve().parents[1])
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{own}{os.pathsep}{path}" if path else own}


def _cause(status: int) -> str:
    if status >= 0:
        return f"its process ended with status {status}"
    if -status == signal.SIGKILL:
        return "its process was killed, perhaps for memory"
    return f"its process ended with signal {-status}"
