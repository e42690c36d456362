"""One model in several processes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def wrap_distributed(model: nn.Module) -> nn.Module:
    """``model`` itself in a single process, otherwise wrapped so that gradients are averaged.

    Of a slot model some parameters may get no gradient, always or in one step only: it takes
    only some of its backbone's maps, and learnt initial slots may stand back for seeded ones.
    """
    if comm.get_world_size() == 1:
        return model
    on_gpu = next(model.parameters()).device.type == "cuda"
    # None is what torch wants for a model on the CPU.
    device_ids = [torch.cuda.current_device()] if on_gpu else None
    # Where all are used after all, torch says so once; looking for them costs little.
    some_unused = getattr(model, "has_slots", False)
    return DistributedDataParallel(model, device_ids=device_ids, find_unused_parameters=some_unused)


def without_exchange(model: nn.Module) -> AbstractContextManager:
    """While it lasts, forward and backward of ``model`` add to this process's gradients only; the
    next pass outside of it averages what has been added up."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()
