#!/usr/bin/env python
"""Measure the selective scan against mamba-ssm's reference loop, side by side.

Forward: the peer is ``selective_scan_ref`` of mamba-ssm, a loop over time in PyTorch. Forward and
backward: the peer is the same loop with its sequences taken apart once by ``unbind``, because the
reference's own slices make its backward pass needlessly slow. Errors are relative to the largest
value of the same loop in float64. The package installs without a GPU by

    MAMBA_SKIP_CUDA_BUILD=TRUE pip install --no-build-isolation --no-deps mamba-ssm einops

after which its reference runs, though its kernels do not. On a machine with a GPU and the whole
package, ``--device cuda`` compares its kernel with the PyTorch path.
"""

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from types import ModuleType
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.nn.functional as F
from torch import Tensor

import slotseg  # noqa: F401  first: it prepares the interpreter for Detectron2
from slotseg.engine import user_errors
from slotseg.errors import SlotSegError
from slotseg.ops import selective_scan as ours


def load_reference() -> Callable[..., Tensor]:
    """``selective_scan_ref`` of the installed mamba-ssm, also where its kernels were not built.

    Only the file that defines it is imported, with empty modules in place of the compiled ones.

    Raises:
        SlotSegError: mamba-ssm or einops is not installed.
    """
    package = importlib.util.find_spec("mamba_ssm")
    if package is None or importlib.util.find_spec("einops") is None:
        raise SlotSegError(
            "mamba-ssm: not installed; MAMBA_SKIP_CUDA_BUILD=TRUE pip install "
            "--no-build-isolation --no-deps mamba-ssm einops installs its reference"
        )
    root = ModuleType("mamba_ssm")
    root.__path__ = list(package.submodule_search_locations)
    layer_norm = ModuleType("mamba_ssm.ops.triton.layer_norm")
    layer_norm._layer_norm_fwd = None
    compiled = ModuleType("selective_scan_cuda")
    stand_ins = {m.__name__: m for m in (root, layer_norm, compiled)}
    # Afterwards the interpreter knows as much of the package as before.
    with mock.patch.dict(sys.modules, stand_ins):
        module = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    return module.selective_scan_ref


def unbind_loop(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The recurrence written out for ordinary autograd, in the dtype of its inputs."""
    decays = torch.exp(delta.unsqueeze(2) * A.unsqueeze(-1)).unbind(-1)
    inputs = ((delta * u).unsqueeze(2) * B.unsqueeze(1)).unbind(-1)
    state, outputs = torch.zeros_like(inputs[0]), []
    for decay, new, readout in zip(decays, inputs, C.unbind(-1), strict=True):
        state = decay * state + new
        outputs.append((state @ readout.unsqueeze(-1)).squeeze(-1))
    return torch.stack(outputs, dim=-1)


def make_inputs(batch: int, channels: int, states: int, length: int, device: str) -> list[Tensor]:
    """``u, delta, A, B, C`` in float32 as a Mamba layer has them when training starts."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    u, delta = normal(batch, channels, length), F.softplus(normal(batch, channels, length) - 3)
    A = -torch.arange(1.0, states + 1, device=device).expand(channels, states).contiguous()
    inputs = [u, delta, A, normal(batch, states, length), normal(batch, states, length)]
    return [x.requires_grad_() for x in inputs]


def seconds(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Shortest time of each side; the sides take turns.

    On a CPU, time of the processor: of a single thread, as long as the wall clock's on an idle
    machine, and hardly longer on a busy one.
    """
    now = time.perf_counter if torch.cuda.is_available() else time.process_time
    best = dict.fromkeys(sides, float("inf"))
    for _ in range(rounds):
        for name, run in sides.items():
            begin = now()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            best[name] = min(best[name], now() - begin)
    return best


def gradients(scan: Callable[..., Tensor], inputs: list[Tensor]) -> tuple[Tensor, ...]:
    """Of the sum of squares of the output."""
    return torch.autograd.grad(scan(*inputs).square().sum(), inputs)


def relative_errors(inputs: list[Tensor]) -> tuple[float, float]:
    """Of the output and, the largest over the inputs, of the gradients."""
    exact_inputs = [x.detach().double().requires_grad_() for x in inputs]
    with torch.no_grad():
        pairs = [(ours.selective_scan(*inputs), unbind_loop(*exact_inputs))]
    pairs += zip(
        gradients(ours.selective_scan, inputs), gradients(unbind_loop, exact_inputs), strict=True
    )
    errors = [float((one.double() - other).abs().max() / other.abs().max()) for one, other in pairs]
    return errors[0], max(errors[1:])


def compare(length: int, args: argparse.Namespace, reference: Callable[..., Tensor]) -> str:
    """One row of the table."""
    inputs = make_inputs(args.batch, args.channels, args.states, length, args.device)
    plain = [x.detach() for x in inputs]
    peer = ours._mamba_kernel() if args.device == "cuda" else None
    with mock.patch.object(ours, "_mamba_kernel", lambda: None):
        output_error, gradient_error = relative_errors(inputs)
        forward = seconds(
            {
                "ours": lambda: ours.selective_scan(*plain),
                "peer": lambda: (peer or reference)(*plain),
            },
            args.rounds,
        )
        both = seconds(
            {
                "ours": lambda: gradients(ours.selective_scan, inputs),
                "peer": lambda: gradients(peer or unbind_loop, inputs),
            },
            args.rounds,
        )
    cells = [
        f"{length}",
        f"{forward['ours'] * 1e3:.0f} ms",
        f"{forward['peer'] * 1e3:.0f} ms",
        f"{forward['peer'] / forward['ours']:.1f}x",
        f"{both['ours'] * 1e3:.0f} ms",
        f"{both['peer'] * 1e3:.0f} ms",
        f"{both['peer'] / both['ours']:.1f}x",
        f"{output_error:.1e}",
        f"{gradient_error:.1e}",
    ]
    return f"| {' | '.join(cells)} |"


@user_errors()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--states", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5, help="the shortest of so many times")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    reference = load_reference()
    print("| steps | forward | peer | ratio | both | peer | ratio | error | of gradients |")
    print("|---|---|---|---|---|---|---|---|---|")
    for length in args.lengths:
        print(compare(length, args, reference), flush=True)


if __name__ == "__main__":
    main()
