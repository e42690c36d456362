import importlib.util

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from slotseg.errors import SlotSegError
from slotseg.ops import selective_scan as module
from slotseg.ops.selective_scan import selective_scan, selective_scan_step


def make(batch=2, channels=4, states=3, length=7, groups=None, dtype=torch.float64, seed=0):
    """All arguments in the order of the signature, B and C with groups if there are any."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    grouped = (batch, states, length) if groups is None else (batch, groups, states, length)
    sequence = (batch, channels, length)
    inputs = [normal(*sequence), normal(*sequence), -normal(channels, states).exp()]
    inputs += [normal(*grouped), normal(*grouped), normal(channels), normal(*sequence)]
    return [*inputs, normal(channels)]


def written_out(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):
    """One image, channel and step after the other, in float64."""
    u, delta, A, B, C, D, z, delta_bias = (
        None if x is None else x.double() for x in (u, delta, A, B, C, D, z, delta_bias)
    )
    batch, channels, length = u.shape
    out = torch.zeros(batch, channels, length, dtype=torch.float64)
    for image in range(batch):
        for channel in range(channels):
            group = () if B.dim() == 3 else (channel * B.shape[1] // channels,)
            state = torch.zeros(A.shape[1], dtype=torch.float64)
            for t in range(length):
                step, x = delta[image, channel, t], u[image, channel, t]
                step = step if delta_bias is None else step + delta_bias[channel]
                step = torch.log1p(step.exp()) if delta_softplus else step
                into, readout = B[(image, *group)][:, t], C[(image, *group)][:, t]
                state = torch.exp(step * A[channel]) * state + step * x * into
                y = (readout * state).sum() + (0 if D is None else D[channel] * x)
                gate = 1 if z is None else z[image, channel, t].sigmoid() * z[image, channel, t]
                out[image, channel, t] = y * gate
    return out


def relative_error(result, expected):
    return float((result.double() - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("groups", [None, 1, 2])
def test_equals_the_written_out_recurrence(groups):
    inputs = make(groups=groups)
    torch.testing.assert_close(
        selective_scan(*inputs, delta_softplus=True), written_out(*inputs, delta_softplus=True)
    )
    plain = [*inputs[:1], F.softplus(inputs[1]), *inputs[2:5]]
    torch.testing.assert_close(selective_scan(*plain), written_out(*plain))


@given(
    batch=st.integers(1, 2),
    groups=st.integers(1, 3),
    group_channels=st.integers(1, 2),
    states=st.integers(1, 3),
    length=st.integers(1, 9),
    chunk=st.integers(1, 10),
)
def test_chunks_do_not_show(batch, groups, group_channels, states, length, chunk):
    inputs = make(batch, groups * group_channels, states, length, groups)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MAX_CHUNK", chunk)
        result = selective_scan(*inputs, delta_softplus=True)
    torch.testing.assert_close(result, written_out(*inputs, delta_softplus=True))


@pytest.mark.parametrize("groups", [None, 2])
@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_gradients_are_exact(monkeypatch, groups, chunk):
    monkeypatch.setattr(module, "_MAX_CHUNK", chunk)
    inputs = [x.requires_grad_() for x in make(groups=groups)]
    assert torch.autograd.gradcheck(lambda *x: selective_scan(*x, delta_softplus=True), inputs)


def test_small_chunks_where_one_step_is_large():
    assert module._chunk_length(numbers_a_step=10, length=1000) == module._MAX_CHUNK
    assert module._chunk_length(numbers_a_step=10, length=5) == 5
    assert module._chunk_length(numbers_a_step=10**9, length=1000) == 1


@pytest.mark.parametrize("length", [256, 1024])
def test_float32_is_precise_over_long_sequences(length):
    inputs = make(batch=1, channels=3, states=16, length=length, dtype=torch.float32)
    inputs[1] -= 3
    expected = written_out(*inputs, delta_softplus=True)
    result = selective_scan(*inputs, delta_softplus=True)
    assert result.dtype == torch.float32
    assert relative_error(result, expected) < 1e-5


def test_half_precision_in_and_out_with_float32_states():
    inputs = [x.requires_grad_() for x in make(length=200, dtype=torch.bfloat16)]
    result = selective_scan(*inputs, delta_softplus=True)
    result.float().sum().backward()
    assert result.dtype == torch.bfloat16
    assert {x.grad.dtype for x in inputs} == {torch.bfloat16}
    wide = [x.detach().float().requires_grad_() for x in inputs]
    expected = selective_scan(*wide, delta_softplus=True)
    # One rounding at the end, none on the way.
    assert torch.equal(result, expected.to(torch.bfloat16))
    expected.sum().backward()
    for half, single in zip(inputs, wide, strict=True):
        torch.testing.assert_close(half.grad.float(), single.grad, rtol=0.01, atol=1e-3)


def test_autocast_changes_neither_the_result_nor_gradients():
    inputs = [x.requires_grad_() for x in make(dtype=torch.float32, length=40)]
    plain = selective_scan(*inputs, delta_softplus=True)
    expected = torch.autograd.grad(plain.sum(), inputs)
    with torch.autocast("cpu", torch.bfloat16):
        result = selective_scan(*inputs, delta_softplus=True)
        gradients = torch.autograd.grad(result.sum(), inputs)
    assert torch.equal(result, plain)
    assert all(torch.equal(x, y) for x, y in zip(gradients, expected, strict=True))


def test_the_states_of_all_steps_are_not_kept():
    inputs = [x.requires_grad_() for x in make(2, 16, 16, 640, dtype=torch.float32)]
    kept = {}

    def keep(x):
        kept[x.data_ptr()] = x.numel()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        selective_scan(*inputs[:5])
    states_of_all_steps = 2 * 16 * 16 * 640
    assert sum(kept.values()) < states_of_all_steps / 2


def test_step_by_step_equals_the_scan():
    u, delta, A, B, C, D, z, bias = make(length=5)
    state, outputs = torch.zeros(2, 4, 3, dtype=torch.float64), []
    for t in range(5):
        now = [x[..., t] for x in (u, delta, B, C, z)]
        y, state = selective_scan_step(
            state, *now[:2], A, *now[2:4], D, now[4], bias, delta_softplus=True
        )
        outputs.append(y)
    scanned = selective_scan(u, delta, A, B, C, D, z, bias, delta_softplus=True)
    torch.testing.assert_close(torch.stack(outputs, dim=-1), scanned)


@pytest.mark.parametrize("wrong", ["delta", "A", "B", "C", "D", "z", "delta_bias"])
def test_shapes_that_do_not_fit_are_named(wrong):
    names = ["u", "delta", "A", "B", "C", "D", "z", "delta_bias"]
    inputs = dict(zip(names, make(), strict=True))
    right = inputs[wrong]
    for shape in (right[:-1], right[..., :-1], right[0]):
        inputs[wrong] = shape
        with pytest.raises(ValueError, match=r"do not fit together: u \(2, 4, 7\), delta"):
            selective_scan(**inputs)


@pytest.fixture(scope="session")
def reference(project_root):
    """mamba-ssm's own loop; skips where the package is not installed."""
    path = project_root / "benchmarks" / "selective_scan.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_the_selective_scan", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    try:
        return benchmark.load_reference()
    except SlotSegError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("groups", [None, 2])
def test_agrees_with_the_reference_of_mamba_ssm(reference, groups):
    inputs = [x.requires_grad_() for x in make(2, 8, 4, 150, groups, dtype=torch.float32)]
    theirs = reference(*inputs, delta_softplus=True)
    ours = selective_scan(*inputs, delta_softplus=True)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    for one, other in zip(
        torch.autograd.grad(ours.square().sum(), inputs),
        torch.autograd.grad(theirs.square().sum(), inputs),
        strict=True,
    ):
        assert relative_error(one, other.double()) < 1e-4


def test_the_kernel_gets_what_it_accepts():
    """Sequences in one dtype, values of channels in float32; here with our scan in its place."""
    inputs = make(2, 8, 4, 20, 2, dtype=torch.float32)
    inputs[0] = inputs[0].bfloat16().transpose(1, 2).contiguous().transpose(1, 2)

    def kernel(u, delta, A, B, C, D, z, delta_bias, delta_softplus):
        assert {x.dtype for x in (u, delta, B, C, z)} == {torch.bfloat16}
        assert {x.dtype for x in (A, D, delta_bias)} == {torch.float32}
        assert all(x.stride(-1) == 1 for x in (u, delta, B, C, z))
        return selective_scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus)

    result = module._run_kernel(kernel, *inputs, delta_softplus=True)
    assert result.dtype == torch.bfloat16
    expected = selective_scan(*inputs, delta_softplus=True)
    torch.testing.assert_close(result, expected, rtol=0.05, atol=0.1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_agrees_with_the_kernel_of_mamba_ssm(monkeypatch):
    if module._mamba_kernel() is None:
        pytest.skip("mamba-ssm with its kernels is not installed")
    inputs = [x.cuda().requires_grad_() for x in make(2, 8, 16, 300, 2, dtype=torch.float32)]
    theirs = selective_scan(*inputs, delta_softplus=True)
    their_gradients = torch.autograd.grad(theirs.square().sum(), inputs)
    monkeypatch.setattr(module, "_mamba_kernel", lambda: None)
    ours = selective_scan(*inputs, delta_softplus=True)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    gradients = torch.autograd.grad(ours.square().sum(), inputs)
    for one, other in zip(gradients, their_gradients, strict=True):
        assert relative_error(one, other.double()) < 1e-3
