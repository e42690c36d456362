"""Two clocks for a budget of training: that of the wall, and that of the processor."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from slotseg.errors import ConfigError

Clock = Callable[[], float]

WALL, PROCESSOR = "wall", "processor"
# Fields of /proc/<pid>/stat behind the name of the program: user and system time.
_USER, _SYSTEM = 11, 12


def clock(name: str) -> Clock:
    """The clock of a name: ``wall`` or ``processor``, each in seconds from some start.

    Raises:
        ConfigError: another name.
    """
    clocks = {WALL: time.perf_counter, PROCESSOR: processor_seconds}
    if name not in clocks:
        raise ConfigError(f"clock: unknown clock {name!r}; choose {' or '.join(clocks)}")
    return clocks[name]


def processor_seconds() -> float:
    """Processor time of this process, all its threads and its worker processes.

    Unlike the wall's, this clock stands still while other programs have the processor, so that a
    training gets the same amount of work from a busy machine as from a quiet one. What two busy
    threads take counts twice. Only differences mean something. Workers are seen to a hundredth of
    a second, and while they live on Linux only.
    """
    # Asked first: to ask is to bury the dead, whose time is among that of the ended ones then.
    living = sum(_seconds_of(child.pid) for child in multiprocessing.active_children())
    ended = os.times()
    return time.process_time() + living + ended.children_user + ended.children_system


def _seconds_of(pid: int | None) -> float:
    """Processor time of another process; 0 where the system does not tell or it is gone."""
    with suppress(OSError, ValueError, IndexError):
        # The name may hold spaces and brackets; the fields begin behind the last bracket.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[_USER]) + int(fields[_SYSTEM])
        return ticks / os.sysconf("SC_CLK_TCK")
    return 0.0
