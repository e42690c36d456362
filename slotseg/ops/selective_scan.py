"""The selective scan of Mamba: a linear recurrence whose coefficients depend on its input."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# States that one chunk of steps may hold, in numbers. The chunk's buffers are passed over several
# times, so they should stay in a processor's cache.
_CHUNK_NUMBERS = 2**19
_MAX_CHUNK = 64
# What mamba-ssm's kernel was compiled for.
_MAX_KERNEL_STATES = 256

_Shape = tuple[int, ...]


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """Scan ``L`` steps of E channels, each with N states that start at zero.

    For every channel e and step t, with ``s = delta`` after bias and softplus,

        h[t] = exp(s[t] A[e]) * h[t - 1] + s[t] u[t] B[t]
        y[t] = <C[t], h[t]> + D[e] u[t]

    and, with a gate, ``y[t] * silu(z[t])``: equation 2 and algorithm 2 of Gu and Dao 2023
    ("Mamba: Linear-Time Sequence Modeling with Selective State Spaces"), with the arguments of
    mamba-ssm's ``selective_scan_fn``. Its CUDA kernel is used where the package can be imported,
    the tensors lie on a GPU and are not float64, and N is at most 256; otherwise the recurrence
    runs in PyTorch on any device. Then states are kept at the borders of chunks only and computed
    again in the backward pass, so memory grows with ``L / chunk * N * E`` instead of ``L * N * E``.

    Args:
        u: ``[batch, E, L]``, float32, float64 or a half precision.
        delta: ``[batch, E, L]``, the step sizes.
        A: ``[E, N]``, real; negative, or states grow without bound.
        B: ``[batch, N, L]``, or ``[batch, G, N, L]`` for G groups of E / G consecutive channels.
        C: as ``B``.
        D: ``[E]``, weight of the input in the output.
        z: ``[batch, E, L]``, the gate.
        delta_bias: ``[E]``, added to ``delta``.
        delta_softplus: take the softplus of the step sizes.

    Returns:
        ``[batch, E, L]`` in the dtype of ``u``. The recurrence itself runs in float32, in float64
        if ``u`` is float64, also under autocast. Gradients are exact, of first order only.

    Raises:
        ValueError: shapes that do not fit together.
    """
    _check_shapes(u=u, delta=delta, A=A, B=B, C=C, D=D, z=z, delta_bias=delta_bias)
    fits_kernel = u.is_cuda and u.dtype != torch.float64 and A.shape[1] <= _MAX_KERNEL_STATES
    kernel = _mamba_kernel() if fits_kernel else None
    if kernel is not None:
        return _run_kernel(kernel, u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    dtype = _state_dtype(u)
    groups = B.shape[1] if B.dim() == 4 else 1
    with torch.autocast(u.device.type, enabled=False):
        # Time first and channels last: one step is one contiguous piece of memory.
        u_t, delta_t, B_t, C_t = (_time_first(x.to(dtype)) for x in (u, delta, B, C))
        y = _Scan.apply(
            u_t.unflatten(2, (groups, -1)),
            _step_sizes(delta_t, delta_bias, delta_softplus).unflatten(2, (groups, -1)),
            A.to(dtype).unflatten(0, (groups, -1)).transpose(1, 2).contiguous(),
            B_t if B.dim() == 4 else B_t.unsqueeze(2),
            C_t if C.dim() == 4 else C_t.unsqueeze(2),
        ).flatten(2)
        if D is not None:
            y = torch.addcmul(y, D.to(dtype), u_t)
        if z is not None:
            y = y * F.silu(_time_first(z.to(dtype)))
    return y.permute(1, 2, 0).to(u.dtype)


def selective_scan_step(
    state: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> tuple[Tensor, Tensor]:
    """One step of :func:`selective_scan`, for sequences that come one element at a time.

    Args:
        state: ``[..., E, N]``, zeros before the first step; float32 (float64 with such inputs).
        u, delta, z: ``[..., E]``.
        A: ``[E, N]``.
        B, C: ``[..., N]``.
        D, delta_bias: ``[E]``.
        delta_softplus: take the softplus of the step sizes.

    Returns:
        The output ``[..., E]`` in the dtype of ``u``, and the next state.
    """
    dtype = state.dtype
    with torch.autocast(u.device.type, enabled=False):
        inputs = u.to(dtype)
        steps = _step_sizes(delta.to(dtype), delta_bias, delta_softplus)
        decay = torch.exp(steps[..., None] * A.to(dtype))
        state = decay * state + (steps * inputs)[..., None] * B.to(dtype)[..., None, :]
        y = (state * C.to(dtype)[..., None, :]).sum(dim=-1)
        if D is not None:
            y = y + D.to(dtype) * inputs
        if z is not None:
            y = y * F.silu(z.to(dtype))
    return y.to(u.dtype), state


class _Scan(torch.autograd.Function):
    """The recurrence alone, time first and channels last.

    Everything that is added up over states or channels is a batched matrix product; what is left
    for the loop over time is one fused multiply-add a step, in place.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        """``u``, ``delta`` ``[L, b, G, e]``, ``A`` ``[G, N, e]``, ``B``, ``C`` ``[L, b, G, N]``."""
        length, batch, groups, channels = u.shape
        chunk = _chunk_length(batch * A.numel(), length)
        y = torch.empty_like(u)
        states = u.new_empty(chunk + 1, batch, *A.shape)
        decay = u.new_empty(chunk, batch, *A.shape)
        borders = u.new_zeros(-(-length // chunk), batch, *A.shape)
        scaled = delta * u
        for number, start in enumerate(range(0, length, chunk)):
            now = slice(start, start + chunk)
            size = len(u[now])
            states[0] = borders[number]
            _run_chunk(states[: size + 1], decay[:size], scaled[now], delta[now], A, B[now])
            _sum_over_states(states[1 : size + 1], C[now], out=y[now])
            if number + 1 < len(borders):
                borders[number + 1] = states[size]
        ctx.save_for_backward(u, delta, A, B, C, borders)
        ctx.chunk = chunk
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, ...]:
        u, delta, A, B, C, borders = ctx.saved_tensors
        chunk = ctx.chunk
        grad_y, scaled = grad_y.contiguous(), delta * u
        grad_scaled, grad_delta = torch.empty_like(scaled), torch.empty_like(delta)
        grad_A, grad_B, grad_C = torch.zeros_like(A), torch.empty_like(B), torch.empty_like(C)
        states = u.new_empty(chunk + 1, *borders.shape[1:])
        decay, grads = torch.empty_like(states[1:]), torch.empty_like(states[1:])
        from_later = torch.zeros_like(states[0])
        # Backward may run under autocast, which would take the matrix products to half precision.
        with torch.autocast(u.device.type, enabled=False):
            for number in reversed(range(len(borders))):
                now = slice(number * chunk, (number + 1) * chunk)
                delta_now, scaled_now, B_now, grad_y_now = (
                    x[now] for x in (delta, scaled, B, grad_y)
                )
                size = len(delta_now)
                h, a, g = states[: size + 1], decay[:size], grads[:size]
                h[0] = borders[number]
                _run_chunk(h, a, scaled_now, delta_now, A, B_now)
                _sum_over_channels(h[1:], grad_y_now, out=grad_C[now])
                torch.mul(C[now].unsqueeze(-1), grad_y_now.unsqueeze(-2), out=g)
                _run_backwards(g, a, from_later)
                torch.mul(a[0], g[0], out=from_later)
                _sum_over_channels(g, scaled_now, out=grad_B[now])
                _sum_over_states(g, B_now, out=grad_scaled[now])
                # From here on `a` holds the gradient of the exponent, delta * A, and `g` is free.
                a.mul_(g).mul_(h[:-1])
                torch.sum(torch.mul(a, A, out=g), dim=-2, out=grad_delta[now])
                grad_A += torch.mul(a, delta_now.unsqueeze(-2), out=g).sum(dim=(0, 1))
            grad_delta.addcmul_(grad_scaled, u)
            grad_u = grad_scaled.mul_(delta)
        return grad_u, grad_delta, grad_A, grad_B, grad_C


def _run_chunk(
    states: Tensor, decay: Tensor, scaled: Tensor, delta: Tensor, A: Tensor, B: Tensor
) -> None:
    """Fill ``states[1:]`` from ``states[0]``, and ``decay`` with the factors between them.

    ``scaled`` is the input times its step size.
    """
    torch.mul(delta.unsqueeze(-2), A, out=decay).exp_()
    torch.mul(B.unsqueeze(-1), scaled.unsqueeze(-2), out=states[1:])
    steps = states.unbind()
    for factor, before, after in zip(decay.unbind(), steps[:-1], steps[1:], strict=True):
        after.addcmul_(factor, before)


def _run_backwards(grads: Tensor, decay: Tensor, from_later: Tensor) -> None:
    """Add to the gradient of every state what comes from the states after it."""
    steps = grads.unbind()
    steps[-1].add_(from_later)
    factors = decay.unbind()
    for t in range(len(steps) - 1, 0, -1):
        steps[t - 1].addcmul_(factors[t], steps[t])


def _sum_over_states(x: Tensor, weights: Tensor, out: Tensor) -> None:
    """``x`` ``[t, b, G, N, e]`` under ``weights`` ``[t, b, G, N]``, into ``[t, b, G, e]``."""
    torch.matmul(weights.unsqueeze(-2), x, out=out.unsqueeze(-2))


def _sum_over_channels(x: Tensor, weights: Tensor, out: Tensor) -> None:
    """``x`` ``[t, b, G, N, e]`` under ``weights`` ``[t, b, G, e]``, into ``[t, b, G, N]``."""
    # A row times a matrix: PyTorch copies one by one when a batch of matrices meets columns.
    torch.matmul(weights.unsqueeze(-2), x.transpose(-1, -2), out=out.unsqueeze(-2))


def _chunk_length(numbers_a_step: int, length: int) -> int:
    return max(1, min(_MAX_CHUNK, _CHUNK_NUMBERS // max(numbers_a_step, 1), length))


def _state_dtype(u: Tensor) -> torch.dtype:
    return torch.float64 if u.dtype == torch.float64 else torch.float32


def _step_sizes(delta: Tensor, bias: Tensor | None, softplus: bool) -> Tensor:
    """``delta`` ``[..., E]`` after bias and softplus."""
    if bias is not None:
        delta = delta + bias.to(delta.dtype)
    return F.softplus(delta) if softplus else delta


def _time_first(x: Tensor) -> Tensor:
    """``[..., L]`` to ``[L, ...]``, contiguous."""
    if not x.is_contiguous():
        return x.movedim(-1, 0).contiguous()
    # As a matrix, for which PyTorch has a transpose that goes block by block.
    return x.flatten(0, -2).t().contiguous().unflatten(1, x.shape[:-1])


def _check_shapes(**inputs: Tensor | None) -> None:
    found = {name: tuple(x.shape) for name, x in inputs.items() if x is not None}
    if not _fit_together(**found):
        told = ", ".join(f"{name} {shape}" for name, shape in found.items())
        raise ValueError(f"selective_scan: shapes do not fit together: {told}")


def _fit_together(
    u: _Shape, delta: _Shape, A: _Shape, B: _Shape, C: _Shape, **optional: _Shape
) -> bool:
    if len(u) != 3 or len(A) != 2:
        return False
    batch, channels, length = u
    groups = B[1:2] if len(B) == 4 else ()
    return (
        delta == optional.get("z", u) == u
        and A[0] == channels
        and B == C == (batch, *groups, A[1], length)
        and all(count > 0 and channels % count == 0 for count in groups)
        and all(optional.get(name, (channels,)) == (channels,) for name in ("D", "delta_bias"))
    )


@cache
def _mamba_kernel() -> Callable[..., Tensor] | None:
    """mamba-ssm's function, or None where the package or its compiled part cannot be imported."""
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except ImportError:
        return None
    return selective_scan_fn


def _run_kernel(
    kernel: Callable[..., Tensor],
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> Tensor:
    """Sequences share the dtype of ``u`` there; what belongs to channels is float32."""
    like_u = [None if x is None else x.to(u.dtype).contiguous() for x in (u, delta, B, C, z)]
    u, delta, B, C, z = like_u
    D, delta_bias = (None if x is None else x.float() for x in (D, delta_bias))
    return kernel(u, delta, A.float(), B, C, D, z, delta_bias, delta_softplus)
