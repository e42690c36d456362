"""Scenes written by several processes."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from tqdm import tqdm

from slotseg.errors import DatasetError

# Scenes that a worker is given at once.
_CHUNK = 4


def write_in_processes(
    write: Callable[[list[int]], int],
    indices: Sequence[int],
    workers: int,
    bar: tqdm,
    *,
    folder: str,
    initializer: Callable[[], None],
) -> None:
    """Call ``write`` on all indices, a few at a time.

    Args:
        write: writes the scenes of these indices and returns their number; picklable.
        indices: of the scenes.
        workers: number of processes.
        bar: advanced by what ``write`` returns.
        folder: where the scenes go, for the error.
        initializer: called in every process before it begins.

    Raises:
        DatasetError: a process died. What ``write`` raises comes out as it is.
    """
    chunks = iter([indices[i : i + _CHUNK] for i in range(0, len(indices), _CHUNK)])
    # Forked workers need not import everything again; elsewhere forking is not safe or not there.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(workers, context, initializer=initializer) as pool:
        pending: set[Future[int]] = set()
        try:
            while True:
                # A short queue: after an error or Ctrl-C only the scenes at work are waited for.
                while len(pending) < 2 * workers and (chunk := next(chunks, None)):
                    pending.add(pool.submit(write, chunk))
                if not pending:
                    return
                finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    bar.update(future.result())
        except BrokenProcessPool as error:
            raise DatasetError(
                f"{folder}: a worker process died (out of memory?); run again with fewer "
                "workers: finished scenes are kept"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
