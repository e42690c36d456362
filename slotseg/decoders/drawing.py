"""Pictures on request: some decoders are too slow to draw one whenever a model is asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def drawing(model: nn.Module) -> Iterator[nn.Module]:
    """Within it every decoder of the model draws its reconstruction in inference.

    Decoders for which this is dear have an attribute ``draws``, off by default.
    """
    found = [module for module in model.modules() if hasattr(module, "draws")]
    before = [module.draws for module in found]
    for module in found:
        module.draws = True
    try:
        yield model
    finally:
        for module, value in zip(found, before, strict=True):
            module.draws = value
