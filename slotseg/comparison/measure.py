"""Speed and memory of a model on this machine."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import nn

from slotseg.engine.inference import inference_mode
from slotseg.engine.trainer import Trainer

_MIB = 2**20
_WARM_UP_IMAGES = 2
# Different images that are timed, over and over if more are asked for.
_KEPT_IMAGES = 8


def count_parameters(model: nn.Module, *, trained: bool = False) -> int:
    """All parameters, trained or frozen; or only those that are ``trained``."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trained)


def load_single_images(cfg: CfgNode, dataset_name: str, count: int) -> list[dict[str, Any]]:
    """The first images of a set as the model takes them, at most a few, to be timed again."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TEST.IMS_PER_BATCH = 1
    cfg.DATALOADER.NUM_WORKERS = 0
    # A new image comes without its features.
    cfg.MODEL.VIT.CACHE = ""
    loader = Trainer.build_test_loader(cfg, dataset_name)
    return [batch[0] for batch in islice(loader, min(count, _KEPT_IMAGES))]


def seconds_an_image(
    model: nn.Module, items: Sequence[dict[str, Any]], count: int
) -> tuple[float, float]:
    """Median seconds of inference on one image, from the mapped image to its segments.

    Reading the file is not part of it; bringing the masks to the size of the file is.

    Args:
        model: on its device.
        items: mapped images, taken in turn.
        count: how many are timed, after a warm-up.

    Returns:
        Seconds of the wall's clock, and of the processor's, which other programs on the machine
        hardly change and which counts all threads.
    """
    seconds = []
    with inference_mode(model):
        for number in range(_WARM_UP_IMAGES + count):
            item = items[number % len(items)]
            _wait_for_device(model)
            began = time.perf_counter(), time.process_time()
            model([item])
            _wait_for_device(model)
            if number >= _WARM_UP_IMAGES:
                seconds.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    wall, processor = (statistics.median(column) for column in zip(*seconds, strict=True))
    return wall, processor


def peak_memory_mib(device: torch.device) -> float:
    """Largest memory of this process so far, MiB.

    On CUDA what tensors took on the device; on the CPU the resident memory of the process, the
    interpreter and its libraries included, worker processes not.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _MIB
    status = Path("/proc/self/status")
    if status.is_file():
        # Unlike getrusage's, this mark starts anew with the program.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / _MIB if sys.platform == "darwin" else peak / 1024


def _wait_for_device(model: nn.Module) -> None:
    device = next(model.parameters()).device
    if device.type == "cuda":
        torch.cuda.synchronize(device)
