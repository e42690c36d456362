"""One model in several processes."""

from __future__ import annotations

import torch
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def wrap_distributed(model: nn.Module) -> nn.Module:
    """``model`` itself in a single process, otherwise wrapped so that gradients are averaged."""
    if comm.get_world_size() == 1:
        return model
    on_gpu = next(model.parameters()).device.type == "cuda"
    # None is what torch wants for a model on the CPU.
    device_ids = [torch.cuda.current_device()] if on_gpu else None
    return DistributedDataParallel(model, device_ids=device_ids)
