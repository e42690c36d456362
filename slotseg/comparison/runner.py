"""Running the jobs of a comparison, each in processes of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from detectron2.utils.file_io import PathManager
from tqdm import tqdm

import slotseg
from slotseg.comparison.plan import JOB_FILE, PHASES, Job, Plan, failure_file, phase_file
from slotseg.engine.clocks import PROCESSOR
from slotseg.files import write_atomically

LOG_FILE = "output.txt"

# Processes of jobs; threads that wait for one hear of no interruption.
_running: set[subprocess.Popen] = set()


def run_jobs(plan: Plan, *, processes: int = 1) -> Iterator[Job]:
    """Run what is not done yet and yield each job when something of it is over.

    Whether it worked is in its folder. One that fails does not stop the others.

    Args:
        plan: what there is to do.
        processes: trainings at once, each with its part of the processor's cores. Speed is
            measured when all of them are over, one model at a time, so that none disturbs another.
    """
    if processes > 1:
        yield from _run_together(plan, processes)
        return
    steps = [(job, phase) for job in plan.jobs for phase in PHASES]
    with tqdm(total=len(steps), desc="comparing", unit="process", disable=None) as bar:
        for job in plan.jobs:
            for phase in PHASES:
                bar.set_postfix_str(f"{job.name} seed {job.seed}: {phase}")
                if not run_phase_in_process(job, phase):
                    break
                bar.update()
            yield job


def _run_together(plan: Plan, processes: int) -> Iterator[Job]:
    first, *others = PHASES
    steps = len(plan.jobs) * len(PHASES)
    with tqdm(total=steps, desc="comparing", unit="process", disable=None) as bar:
        for job in run_side_by_side(plan.jobs, first, processes=processes):
            bar.update()
            yield job
        for job in plan.jobs:
            done = PathManager.isfile(phase_file(job.folder, first))
            for phase in others if done else ():
                bar.set_postfix_str(f"{job.name} seed {job.seed}: {phase}")
                if not run_phase_in_process(job, phase):
                    break
                bar.update()
            yield job


def run_side_by_side(jobs: Sequence[Job], phase: str, *, processes: int = 1) -> Iterator[Job]:
    """Run one phase of all jobs, ``processes`` at once, and yield each job when it is over.

    The processor's cores are shared out evenly: on a CPU one thread in each of two processes does
    more than two threads in one after the other. Whoever stops waiting for them ends them.
    """
    processes = max(1, min(processes, len(jobs)))
    threads = None if processes == 1 else max(1, _cores() // processes)
    pool = ThreadPoolExecutor(processes)
    try:
        running = {pool.submit(run_phase_in_process, job, phase, threads): job for job in jobs}
        for done in as_completed(running):
            done.result()
            yield running[done]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list(_running):
            process.terminate()
        pool.shutdown()


def run_phase_in_process(job: Job, phase: str, threads: int | None = None) -> bool:
    """Run one phase unless it is done; whether it is done now.

    The process's output goes to ``output.txt`` in the job's folder; on a terminal its progress
    bars are shown. It ends when this process does.

    Args:
        job: whose folder says what is done.
        phase: see :mod:`slotseg.comparison.job`.
        threads: of the process; None: as the environment says.
    """
    if PathManager.isfile(phase_file(job.folder, phase)):
        return True
    PathManager.mkdirs(job.folder)
    failed = failure_file(job.folder, phase)
    if PathManager.isfile(failed):
        PathManager.rm(failed)
    write_atomically(os.path.join(job.folder, JOB_FILE), job.dumps())
    log = os.path.join(job.folder, LOG_FILE)
    status = _run_process(phase, job.folder, log, threads, job.clock == PROCESSOR)
    if status == 0 and PathManager.isfile(phase_file(job.folder, phase)):
        return True
    if not PathManager.isfile(failed):
        write_atomically(failed, f"{_cause(status)}; see {log}")
    return False


def _run_process(phase: str, folder: str, log: str, threads: int | None, waits_asleep: bool) -> int:
    """The exit status, negative for a signal."""
    # Nothing is ever written into it: its end tells the process that this one is gone.
    read_end, write_end = os.pipe()
    try:
        with open(log, "a", encoding="utf-8") as file:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "slotseg.comparison.job"),
                    *(phase, folder, "--end-with-parent"),
                ],
                stdin=read_end,
                stdout=file,
                stderr=None if sys.stderr.isatty() and threads is None else file,
                env=_environment(threads, waits_asleep),
            )
        with process:
            _running.add(process)
            try:
                return process.wait()
            except BaseException:
                process.terminate()
                raise
            finally:
                _running.discard(process)
    finally:
        os.close(read_end)
        os.close(write_end)


def _environment(threads: int | None, waits_asleep: bool) -> dict[str, str]:
    """This process's, with the SlotSeg that is running here in front."""
    own = str(Path(slotseg.__file__).resolve().parents[1])
    path = os.environ.get("PYTHONPATH")
    environment = {**os.environ, "PYTHONPATH": f"{own}{os.pathsep}{path}" if path else own}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    if threads is not None or waits_asleep:
        # A thread that spins while it waits takes a core that another process could use, and the
        # processor's clock would count it.
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    return environment


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cause(status: int) -> str:
    if status >= 0:
        return f"its process ended with status {status}"
    if -status == signal.SIGKILL:
        return "its process was killed, perhaps for memory"
    return f"its process ended with signal {-status}"
