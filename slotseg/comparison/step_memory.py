"""The memory that one training step takes, on an image of any size."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils.events import EventStorage

from slotseg.classes import class_set
from slotseg.comparison.measure import peak_memory_mib
from slotseg.engine.precision import build_autocast
from slotseg.engine.rng import seed_all
from slotseg.engine.trainer import Trainer

# The first step allocates what the optimiser remembers, the second meets it.
_STEPS = 2
# A first model on a small image pays for everything that is loaded once.
_WARM_UP_SIZE = (64, 128)
_SEGMENTS = 8


def training_step_memory_mib(cfg: CfgNode, size: Sequence[int]) -> float:
    """Peak memory of a training step of this config on one image, MiB.

    Weights, gradients, the optimiser's state and activations. On CUDA what tensors took; on the
    CPU how far the process grew beyond what it had when everything was imported and used once, so
    that libraries do not count. Best called in a process that has done nothing else.

    Args:
        cfg: of the training; its data are not read, an image of noise takes their place.
        size: height and width in pixels.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.IMS_PER_BATCH = 1
    cfg.INPUT.IMAGE_SIZE = tuple(size)
    cfg.freeze()
    seed_all(0)
    _die_first()
    device = torch.device(cfg.MODEL.DEVICE)
    _train_steps(cfg, _WARM_UP_SIZE)
    _give_back_freed_memory()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device) / 2**20
    else:
        _forget_peak()
        before = _resident_mib() or peak_memory_mib(device)
    _train_steps(cfg, size)
    return max(0.0, peak_memory_mib(device) - before)


def noise_batch(cfg: CfgNode, size: Sequence[int]) -> list[dict[str, Any]]:
    """One image as the mapper of the config's training set would give it, of noise and stripes."""
    height, width = size
    segments = torch.arange(width).mul(_SEGMENTS).div(width, rounding_mode="floor")
    item = {
        "file_name": "noise",
        "image": torch.randint(0, 256, (3, height, width), dtype=torch.uint8),
        "segment_map": segments.expand(height, width).contiguous(),
        "segment_is_object": torch.arange(_SEGMENTS) > 0,
        "height": height,
        "width": width,
    }
    if MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).get("evaluator_type") == "panoptic":
        classes = class_set(cfg.DATASETS.TRAIN[0])
        item["segment_category"] = torch.arange(_SEGMENTS) % len(classes.is_thing)
        item["segment_is_crowd"] = torch.zeros(_SEGMENTS, dtype=torch.bool)
    return [item]


def _train_steps(cfg: CfgNode, size: Sequence[int]) -> None:
    model = Trainer.build_model(cfg).train()
    optimizer = Trainer.build_optimizer(cfg, model)
    autocast = build_autocast(cfg, torch.device(cfg.MODEL.DEVICE))
    batch = noise_batch(cfg, size)
    with EventStorage():
        for _ in range(_STEPS):
            with autocast():
                total = sum(model(batch).values())
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            optimizer.step()


def _give_back_freed_memory() -> None:
    """What the allocator keeps for later would hide that the next model needs it."""
    gc.collect()
    # glibc only; elsewhere the first, small model counts a little less than it should.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _forget_peak() -> None:
    """The largest memory so far was perhaps that of reading weights; Linux only."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _resident_mib() -> float | None:
    """Resident memory of this process now; None where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    for line in status.read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return None


def _die_first() -> None:
    """If memory runs out, this process should go and not what else runs on the machine."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
