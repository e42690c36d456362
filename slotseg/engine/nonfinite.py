"""Stop before NaN reaches the weights, and keep what is needed to find its cause."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from detectron2.utils import comm

from slotseg.errors import NonFiniteLossError
from slotseg.files import write_atomically

REPORT_FILE = "nonfinite_batch.json"


def stop_training(
    values: Mapping[str, float],
    batch: Sequence[Mapping[str, Any]],
    *,
    iteration: int,
    output_dir: str,
) -> NoReturn:
    """Write ``nonfinite_batch.json`` and raise.

    Every rank must call it: each contributes the file names of its part of the batch.

    Args:
        values: losses and the gradient norm, some of them not finite.
        batch: this rank's images.
        iteration: of the step that was not taken.
        output_dir: of the run.

    Raises:
        NonFiniteLossError: always.
    """
    gathered = comm.gather([str(x.get("file_name", "")) for x in batch])
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    path = os.path.join(output_dir, REPORT_FILE)
    if comm.is_main_process():
        report = {
            "iteration": iteration,
            # JSON knows neither NaN nor infinity.
            "values": {k: v if math.isfinite(v) else str(v) for k, v in values.items()},
            "file_names": [name for names in gathered for name in names],
        }
        write_atomically(path, json.dumps(report, indent=2) + "\n")
    raise NonFiniteLossError(
        f"iteration {iteration}: {', '.join(f'{name} is {values[name]}' for name in bad)}; the "
        f"weights were not changed and {path} names the images; lower SOLVER.BASE_LR, set "
        "SOLVER.CLIP_GRADIENTS.ENABLED True, or check these images"
    )
