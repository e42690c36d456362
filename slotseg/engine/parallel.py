"""One model in several processes."""

from __future__ import annotations

import warnings

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
    some_unused = getattr(model, "has_slots", False)
    # Said once where all are used after all; looking for them costs little.
    warnings.filterwarnings("ignore", "find_unused_parameters=True was specified")
    return DistributedDataParallel(model, device_ids=device_ids, find_unused_parameters=some_unused)
