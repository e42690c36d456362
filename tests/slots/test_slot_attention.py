import numpy as np
import pytest
import torch

from slotseg.errors import ConfigError
from slotseg.slots import SlotAttention, Tokens


def make(dim=8, iterations=3, **options):
    torch.manual_seed(0)
    defaults = {"mlp_dim": 16, "epsilon": 1e-8, "bo_qsa": False, "self_attention_heads": 0}
    return SlotAttention(dim=dim, iterations=iterations, **{**defaults, **options})


def make_inputs(batch=2, grid=(3, 4), num_slots=5, dim=8, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(batch, grid[0] * grid[1], dim, generator=generator, dtype=dtype)
    slots = torch.randn(batch, num_slots, dim, generator=generator, dtype=dtype)
    return Tokens(values, grid), slots


def layer_norm(x, module):
    weight, bias = (p.detach().numpy() for p in (module.weight, module.bias))
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(x.var(-1, keepdims=True) + module.eps) * weight + bias


def linear(x, module):
    out = x @ module.weight.detach().numpy().T
    return out if module.bias is None else out + module.bias.detach().numpy()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def written_out(module, tokens, slots):
    """Algorithm 1 of the paper with loops over images, slots and pixels."""
    out_slots, out_attention = [], []
    gru = {name: p.detach().numpy() for name, p in module.update.gru.named_parameters()}
    for inputs, state in zip(tokens.values.numpy(), slots.numpy(), strict=True):
        normed = layer_norm(inputs, module.norm_tokens)
        keys, values = linear(normed, module.to_key), linear(normed, module.to_value)
        state = state.copy()
        num_pixels, num_slots, dim = len(inputs), len(state), inputs.shape[1]
        for _ in range(module.iterations):
            queries = linear(layer_norm(state, module.norm_slots), module.to_query)
            attention = np.zeros((num_slots, num_pixels))
            for pixel in range(num_pixels):
                scores = np.array([q @ keys[pixel] / np.sqrt(dim) for q in queries])
                attention[:, pixel] = np.exp(scores) / np.exp(scores).sum()
            for slot in range(num_slots):
                weights = attention[slot] + module.epsilon
                update = sum(w * v for w, v in zip(weights / weights.sum(), values, strict=True))
                x = gru["weight_ih"] @ update + gru["bias_ih"]
                h = gru["weight_hh"] @ state[slot] + gru["bias_hh"]
                (xr, xz, xn), (hr, hz, hn) = np.split(x, 3), np.split(h, 3)
                reset, keep = sigmoid(xr + hr), sigmoid(xz + hz)
                state[slot] = (1 - keep) * np.tanh(xn + reset * hn) + keep * state[slot]
                hidden = linear(layer_norm(state[slot], module.norm_mlp), module.mlp[0])
                state[slot] = state[slot] + linear(np.maximum(hidden, 0), module.mlp[2])
        out_slots.append(state)
        out_attention.append(attention)
    return np.stack(out_slots), np.stack(out_attention)


def test_equals_the_written_out_algorithm_in_float64():
    module = make().double()
    # The published module leaves the normalised inputs' scale at 1: give the norms other values.
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    tokens, slots = make_inputs(dtype=torch.float64)
    state = module(tokens, slots)
    expected_slots, expected_attention = written_out(module, tokens, slots)
    np.testing.assert_allclose(state.slots.detach().numpy(), expected_slots, atol=1e-6)
    attention = state.attention.detach().flatten(2).numpy()
    np.testing.assert_allclose(attention, expected_attention, atol=1e-6)


@pytest.mark.parametrize("heads", [0, 2])
def test_slots_are_exchangeable(heads):
    module = make(self_attention_heads=heads)
    tokens, slots = make_inputs()
    order = torch.tensor([3, 1, 4, 0, 2])
    plain, permuted = module(tokens, slots), module(tokens, slots[:, order])
    torch.testing.assert_close(plain.slots[:, order], permuted.slots, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(plain.attention[:, order], permuted.attention)


def test_pixels_are_exchangeable():
    module = make()
    tokens, slots = make_inputs()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    plain = module(tokens, slots)
    permuted = module(Tokens(tokens.values[:, order], tokens.grid), slots)
    torch.testing.assert_close(plain.slots, permuted.slots, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        plain.attention.flatten(2)[..., order], permuted.attention.flatten(2)
    )


def test_attention_sums_to_one_over_slots_and_keeps_the_grid():
    tokens, slots = make_inputs(grid=(2, 6))
    attention = make()(tokens, slots).attention
    assert attention.shape == (2, 5, 2, 6)
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(2, 2, 6))


@pytest.mark.parametrize("bo_qsa", [False, True])
def test_gradients_reach_the_initial_slots(bo_qsa):
    tokens, slots = make_inputs()
    slots.requires_grad_()
    make(bo_qsa=bo_qsa)(tokens, slots).slots.square().sum().backward()
    assert slots.grad.abs().min() > 0


def test_bo_qsa_gives_the_same_slots_and_the_last_iterations_gradient():
    module, (tokens, slots) = make(bo_qsa=True), make_inputs()
    slots.requires_grad_()
    out = module(tokens, slots).slots
    with torch.no_grad():
        module.bo_qsa = False
        torch.testing.assert_close(out, module(tokens, slots).slots)
        module.iterations = 2
        before_last = module(tokens, slots).slots
    out.sum().backward()
    before_last.requires_grad_()
    module.iterations = 1
    module(tokens, before_last).slots.sum().backward()
    torch.testing.assert_close(slots.grad, before_last.grad)


def test_competition_is_float32_under_autocast():
    tokens, slots = make_inputs()
    with torch.autocast("cpu", torch.bfloat16):
        attention = make()(tokens, slots).attention
    assert attention.dtype == torch.float32
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(2, 3, 4))


def test_impossible_options_are_refused():
    with pytest.raises(ConfigError, match="ITERATIONS is 0"):
        make(iterations=0)
    with pytest.raises(ConfigError, match="SELF_ATTENTION_HEADS 3 does not divide"):
        make(self_attention_heads=3)
