"""Where logged scalars go."""

from __future__ import annotations

import os

from detectron2.utils.events import (
    CommonMetricPrinter,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
)

from slotseg.engine.hooks.progress_bar import terminal_is_watched

METRICS_FILE = "metrics.json"


def build_writers(output_dir: str, start_iter: int, max_iter: int) -> list[EventWriter]:
    """JSON lines and TensorBoard in ``output_dir``; log lines where no progress bar is shown.

    Args:
        output_dir: of the run.
        start_iter: first iteration of this process; TensorBoard hides what an earlier, killed one
            wrote from there on.
        max_iter: last iteration, for the time left.
    """
    writers: list[EventWriter] = [
        JSONWriter(os.path.join(output_dir, METRICS_FILE)),
        TensorboardXWriter(output_dir, purge_step=start_iter),
    ]
    if not terminal_is_watched():
        writers.append(CommonMetricPrinter(max_iter))
    return writers
