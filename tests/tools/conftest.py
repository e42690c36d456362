"""Tools run as users run them, without paying for their imports every time.

A server process imports everything once and forks a process for each run. What runs is the tool's
file with its own command line, working folder, environment and standard streams.
"""

import multiprocessing
import os
import runpy
import signal
import sys
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

PATIENCE = 120.0


@dataclass
class ToolRun:
    """A started tool."""

    process: BaseProcess
    stdout: Path
    stderr: Path

    @property
    def out(self):
        return self.stdout.read_text()

    @property
    def err(self):
        return self.stderr.read_text()

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)

    def finish(self):
        """Wait for the end; the exit status, negative for a signal."""
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.kill()
            raise AssertionError(f"the tool hangs; it said: {self.out}{self.err}")
        return self.process.exitcode


@pytest.fixture
def start_tool(project_root, tmp_path):
    """``start_tool("train_net.py", *arguments)``, run in tmp_path.

    ``environment`` is added to this process's; with ``die_at`` n the tool dies of SIGKILL at its
    n-th change of a folder.
    """
    runs = []

    def start(name, *arguments, environment=None, die_at=0):
        stdout, stderr = (tmp_path / f"{kind}{len(runs)}.txt" for kind in ("stdout", "stderr"))
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["slotseg.engine"])
        process = context.Process(
            target=_run,
            args=(
                [str(project_root / "tools" / name), *map(str, arguments)],
                str(tmp_path),
                {"OMP_NUM_THREADS": "1", **(environment or {})},
                (str(stdout), str(stderr)),
                die_at,
            ),
        )
        process.start()
        runs.append(ToolRun(process, stdout, stderr))
        return runs[-1]

    yield start
    for run in runs:
        if run.process.is_alive():
            run.kill()
            run.process.join(PATIENCE)


def _run(arguments, folder, environment, streams, die_at):
    os.chdir(folder)
    os.environ.update(environment)
    for number, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    torch.set_num_threads(1)
    # Data workers have to be children of this process, which they watch and end with.
    multiprocessing.set_start_method("fork", force=True)
    if die_at:
        _die_in_the_middle_of_writing(die_at)
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name="__main__")


def _die_in_the_middle_of_writing(number):
    """SIGKILL this process just before its n-th fsync, rename or removal."""
    calls = iter(range(1, 10**6))

    def deadly(function):
        def wrapper(*args, **kwargs):
            if next(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return wrapper

    for name in ("fsync", "replace", "remove"):
        setattr(os, name, deadly(getattr(os, name)))


@pytest.fixture(scope="session")
def tiny_config(project_root):
    """Config file of a run that takes a second."""
    return project_root / "tests" / "engine" / "tiny.yaml"


@pytest.fixture(scope="session")
def tiny_datasets(tmp_path_factory, scene_folder_factory):
    """A DETECTRON2_DATASETS folder for it."""
    root = tmp_path_factory.mktemp("datasets")
    scene_folder_factory(root / "clevr_generated" / "train", num_scenes=10, seed=0)
    scene_folder_factory(root / "clevr_generated" / "val", num_scenes=5, seed=2)
    return root


@pytest.fixture
def train_net(start_tool, tiny_config, tiny_datasets):
    """``train_net(*arguments)``: the tiny run, started on the CPU."""

    def start(*arguments, environment=None, **options):
        environment = {"DETECTRON2_DATASETS": str(tiny_datasets), **(environment or {})}
        arguments = ("--config-file", tiny_config, "--num-gpus", "0", *arguments)
        return start_tool("train_net.py", *arguments, environment=environment, **options)

    return start
