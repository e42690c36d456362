"""The exponential moving average of one model's weights in another model."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed
from detectron2.layers import FrozenBatchNorm2d
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

_LOW_PRECISION = (torch.float16, torch.bfloat16)
_RUNNING_STATISTICS = ("running_mean", "running_var")


def decay_at(step: int, decay: float, warm_up: float) -> float:
    """The decay of update ``step``, from 0: ``min(decay, (1 + step) / (warm_up + step))``.

    With it an average looks back over about a ``warm_up - 1``-th of the updates so far, until
    ``decay`` is reached at ``step = (decay * warm_up - 1) / (1 - decay)``. A ``warm_up`` of 2 gives
    the plain mean of all weights so far and the initial ones (Tarvainen and Valpola 2017), 10 is
    usual, 1 and below do not warm up.

    Args:
        step: updates made before this one.
        decay: 0 to below 1.
        warm_up: not negative.
    """
    return min(decay, (1 + step) / (max(warm_up, 1.0) + step))


class WeightAverage:
    """Keeps ``average`` the moving average of ``source``, a model of the same architecture.

    What becomes of every tensor of ``average``:

    * a parameter that is trained: averaged, in float32 also if the source has fewer bits;
    * a frozen parameter, and the constants of a frozen batch normalisation: shared with the source,
      which costs neither time nor memory;
    * running statistics of normalisation layers: averaged like the weights that they go with; of
      several processes those of the first, as DistributedDataParallel has it;
    * any other buffer (counters, tables, constants): copied.

    Args:
        average: in evaluation mode, without gradients; changed in place.
        source: the trained model itself, not one wrapped for several processes. Parameters are
            frozen from the beginning or never.

    Raises:
        ValueError: their tensors differ in name or shape.
    """

    def __init__(self, average: nn.Module, source: nn.Module) -> None:
        _require_same_tensors(average, source)
        _share_constants(average, source)
        self._averaged = _averaged_pairs(average, source)
        self._statistics = list(_buffer_pairs(average, source, statistics=True))
        self._copied = list(_buffer_pairs(average, source, statistics=False))

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """``average = decay * average + (1 - decay) * source``.

        Every process computes the same, since after a step all have the same weights.
        """
        pairs = [*self._averaged, *self._statistics]
        if pairs:
            old = [mean for mean, _ in pairs]
            new = [value.to(mean.dtype) for mean, value in pairs]
            # On a GPU a few kernels for all tensors instead of one for each.
            torch._foreach_lerp_(old, new, 1.0 - decay)
        for copy, value in self._copied:
            copy.copy_(value)
        self._take_first_process_statistics()

    @torch.no_grad()
    def copy(self) -> None:
        """``average = source``, with all buffers."""
        for mean, value in (*self._averaged, *self._statistics, *self._copied):
            mean.copy_(value)

    def _take_first_process_statistics(self) -> None:
        if not self._statistics or comm.get_world_size() == 1:
            return
        flat = torch.cat([mean.flatten() for mean, _ in self._statistics])
        torch.distributed.broadcast(flat, 0)
        parts = flat.split([mean.numel() for mean, _ in self._statistics])
        for (mean, _), part in zip(self._statistics, parts, strict=True):
            mean.copy_(part.view_as(mean))


def _require_same_tensors(average: nn.Module, source: nn.Module) -> None:
    own, other = (
        {name: t.shape for name, t in _named_tensors(model)} for model in (average, source)
    )
    if own != other:
        different = sorted(n for n in own.keys() | other.keys() if own.get(n) != other.get(n))
        raise ValueError(f"models of different architectures: {', '.join(different[:3])}")


def _named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _share_constants(average: nn.Module, source: nn.Module) -> None:
    for own, other in zip(average.modules(), source.modules(), strict=True):
        for name, parameter in other._parameters.items():
            if parameter is not None and not parameter.requires_grad:
                own._parameters[name] = parameter
        if isinstance(other, FrozenBatchNorm2d):
            own._buffers.update(other._buffers)


def _averaged_pairs(average: nn.Module, source: nn.Module) -> list[tuple[Tensor, Tensor]]:
    pairs = []
    own = dict(average.named_parameters(remove_duplicate=False))
    for name, parameter in source.named_parameters():
        if not parameter.requires_grad:
            continue
        mean = own[name].requires_grad_(False)
        if mean.dtype in _LOW_PRECISION:
            # Steps of 1 - decay would be rounded away.
            mean.data = mean.data.float()
        pairs.append((mean, parameter))
    return pairs


def _buffer_pairs(
    average: nn.Module, source: nn.Module, *, statistics: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Buffers of both, either running statistics or all others, none twice."""
    seen = set()
    for own, other in zip(average.modules(), source.modules(), strict=True):
        for name, buffer in other._buffers.items():
            if buffer is None or own._buffers[name] is buffer or id(buffer) in seen:
                continue
            if statistics == (isinstance(other, _NormBase) and name in _RUNNING_STATISTICS):
                seen.add(id(buffer))
                yield own._buffers[name], buffer
