"""Start as many processes as asked for, on GPUs or on the CPU."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
import torch.multiprocessing
from detectron2.utils import comm

from slotseg.errors import ConfigError

_TIMEOUT = timedelta(minutes=30)
_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def launch(
    main: Callable[..., Any],
    *,
    num_gpus: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    args: tuple[Any, ...] = (),
) -> None:
    """Call ``main(*args)`` in every process.

    Under ``torchrun`` this process is one of those it started and the other arguments do not
    count. Otherwise ``num_gpus`` processes are started on this machine; 0 and 1 mean this process
    itself. Processes talk over NCCL, or over GLOO where there is no CUDA or ``num_gpus`` is 0.

    Args:
        main: of a module that a started process can import.
        num_gpus: processes, and GPUs, on each machine.
        num_machines, machine_rank: how many there are, and which this is.
        dist_url: where they meet, such as ``tcp://host:port``; "auto": a free local port.
        args: picklable.

    Raises:
        ConfigError: more GPUs asked for than there are, or machines without a common address.
    """
    on_gpu = num_gpus > 0 and torch.cuda.is_available()
    if all(name in os.environ for name in _TORCHRUN):
        local_size = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
        _join(
            rank=int(os.environ["RANK"]),
            local_rank=int(os.environ["LOCAL_RANK"]),
            local_size=local_size,
            world_size=int(os.environ["WORLD_SIZE"]),
            url="env://",
            on_gpu=on_gpu,
        )
        _call_and_leave(main, args)
        return
    local_size = max(num_gpus, 1)
    world_size = local_size * num_machines
    if on_gpu and local_size > torch.cuda.device_count():
        raise ConfigError(
            f"--num-gpus {num_gpus}: this machine has {torch.cuda.device_count()} GPUs"
        )
    if world_size == 1:
        main(*args)
        return
    if dist_url == "auto":
        if num_machines > 1:
            raise ConfigError("--dist-url: machines need a common address, tcp://host:port")
        dist_url = f"tcp://127.0.0.1:{_free_port()}"
    try:
        torch.multiprocessing.spawn(
            _started,
            nprocs=local_size,
            args=(main, machine_rank * local_size, local_size, world_size, dist_url, on_gpu, args),
        )
    except torch.multiprocessing.ProcessExitedException as error:
        # The process has told its user why; a traceback of this one would bury that.
        sys.exit(error.exit_code)


def _started(
    local_rank: int,
    main: Callable[..., Any],
    first_rank: int,
    local_size: int,
    world_size: int,
    url: str,
    on_gpu: bool,
    args: tuple[Any, ...],
) -> None:
    _join(
        rank=first_rank + local_rank,
        local_rank=local_rank,
        local_size=local_size,
        world_size=world_size,
        url=url,
        on_gpu=on_gpu,
    )
    _call_and_leave(main, args)


def _call_and_leave(main: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        main(*args)
    finally:
        torch.distributed.destroy_process_group()


def _join(
    *, rank: int, local_rank: int, local_size: int, world_size: int, url: str, on_gpu: bool
) -> None:
    """Enter the process group and tell Detectron2 which processes share this machine."""
    if on_gpu:
        torch.cuda.set_device(local_rank)
    torch.distributed.init_process_group(
        backend="nccl" if on_gpu else "gloo",
        init_method=url,
        world_size=world_size,
        rank=rank,
        timeout=_TIMEOUT,
    )
    # Detectron2's main has a function for this, v0.5 only the variable; both read it.
    for machine in range(world_size // local_size):
        ranks = list(range(machine * local_size, (machine + 1) * local_size))
        group = torch.distributed.new_group(ranks)
        if rank in ranks:
            comm._LOCAL_PROCESS_GROUP = group
    comm.synchronize()
    logging.getLogger(__name__).info(f"Process {rank} of {world_size} is ready")


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
