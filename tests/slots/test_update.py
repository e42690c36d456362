import numpy as np
import pytest
import torch
import torch.nn.functional as F

from slotseg import get_cfg
from slotseg.errors import ConfigError
from slotseg.slots import SlotAttention, Tokens, build_slot_grouping
from slotseg.slots.update import GRUUpdate, MambaUpdate

DIM = 8


def make(expand=2, state_dim=3):
    torch.manual_seed(0)
    return MambaUpdate(dim=DIM, expand=expand, state_dim=state_dim)


def make_grouping(iterations=3, bo_qsa=False):
    torch.manual_seed(0)
    options = {"mlp_dim": 16, "epsilon": 1e-8, "self_attention_heads": 0}
    return SlotAttention(dim=DIM, iterations=iterations, bo_qsa=bo_qsa, update=make(), **options)


def make_inputs(dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(2, 12, DIM, generator=generator, dtype=dtype)
    return Tokens(values, (3, 4)), torch.randn(2, 5, DIM, generator=generator, dtype=dtype)


def numbers(module):
    return {name: p.detach().numpy() for name, p in module.named_parameters()}


def silu(x):
    return x / (1 + np.exp(-x))


def written_out(module, gathered, slot):
    """All iterations of one slot: ``gathered`` ``[T, D]`` and the slot ``[D]`` before them."""
    p, select = numbers(module), module.select
    channels, rank, states = module.to_slots.in_features, select.rank, select.state_dim
    state = np.zeros((channels, states))
    for seen in gathered:
        normed = (slot - slot.mean()) / np.sqrt(slot.var() + module.norm.eps)
        normed = normed * p["norm.weight"] + p["norm.bias"]
        both = p["to_channels.weight"] @ np.concatenate([seen, normed])
        x, gate = silu(both[:channels]), both[channels:]
        selected = p["select.select_weight"][0] @ x
        steps, into, readout = np.split(selected, [rank, rank + states])
        steps = p["select.step_weight"][0] @ steps + p["select.step_bias"]
        y = np.zeros(channels)
        for c in range(channels):
            step = np.log1p(np.exp(steps[c]))
            for n in range(states):
                decay = np.exp(-step * np.exp(p["select.log_decay"][c, n]))
                state[c, n] = decay * state[c, n] + step * into[n] * x[c]
                y[c] += readout[n] * state[c, n]
            y[c] = (y[c] + p["select.skip"][c] * x[c]) * silu(gate[c])
        slot = slot + p["to_slots.weight"] @ y
    return slot


def test_equals_the_written_out_recurrence_in_float64():
    module = make().double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    generator = torch.Generator().manual_seed(2)
    gathered = torch.randn(4, 2, 3, DIM, generator=generator, dtype=torch.float64)
    initial = torch.randn(2, 3, DIM, generator=generator, dtype=torch.float64)
    slots, memory = initial, module.start(initial)
    for seen in gathered:
        slots, memory = module(seen, slots, memory)
    for image in range(2):
        for k in range(3):
            expected = written_out(module, gathered[:, image, k].numpy(), initial[image, k].numpy())
            np.testing.assert_allclose(slots[image, k].detach().numpy(), expected, atol=1e-10)


def test_earlier_iterations_are_remembered():
    module, (_, slots) = make(), make_inputs()
    first, then = torch.randn(2, *slots.shape)
    _, memory = module(first, slots, module.start(slots))
    remembered, _ = module(then, slots, memory)
    fresh, _ = module(then, slots, module.start(slots))
    assert (remembered - fresh).abs().amax(dim=-1).min() > 1e-5


def test_slots_and_pixels_are_exchangeable():
    module, (tokens, slots) = make_grouping(), make_inputs()
    plain = module(tokens, slots)
    order = torch.tensor([3, 1, 4, 0, 2])
    permuted = module(tokens, slots[:, order])
    torch.testing.assert_close(plain.slots[:, order], permuted.slots, atol=1e-5, rtol=1e-4)
    pixels = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    permuted = module(Tokens(tokens.values[:, pixels], tokens.grid), slots)
    torch.testing.assert_close(plain.slots, permuted.slots, atol=1e-5, rtol=1e-4)


def test_bo_qsa_gives_the_same_slots_and_the_last_iterations_gradient():
    (tokens, initial), module = make_inputs(), make_grouping(bo_qsa=True)
    initial.requires_grad_()
    out = module(tokens, initial).slots
    torch.testing.assert_close(out, make_grouping()(tokens, initial).slots)
    gradients = torch.autograd.grad(out.square().sum(), [initial, *module.parameters()])
    # The last iteration by hand, from slots and states that are constants.
    with torch.no_grad():
        keys, values = module.keys_and_values(tokens)
        slots, memory = initial, module.update.start(initial)
        for _ in range(2):
            attention = module.compete(slots, keys).softmax(dim=1)
            slots, memory = module.refine(slots, module.gather(attention, values), memory)
    slots.requires_grad_()
    keys, values = module.keys_and_values(tokens)
    attention = module.compete(slots, keys).softmax(dim=1)
    last, _ = module.refine(slots, module.gather(attention, values), memory)
    expected = torch.autograd.grad(last.square().sum(), [slots, *module.parameters()])
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_states_stay_float32_under_autocast():
    module, (tokens, slots) = make_grouping(), make_inputs()
    with torch.autocast("cpu", torch.bfloat16):
        _, memory = module.update(slots.bfloat16(), slots, module.update.start(slots))
        state = module(tokens, slots)
    assert memory.dtype == torch.float32
    expected = module(tokens, slots)
    torch.testing.assert_close(state.slots.float(), expected.slots, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", ["SlotAttention", "NestedSlotAttention"])
@pytest.mark.parametrize("bo_qsa", [False, True])
def test_gradients_reach_everything(name, bo_qsa):
    options = ["MODEL.SLOTS.GROUPING.NAME", name, "MODEL.SLOTS.DIM", DIM]
    options += ["MODEL.SLOTS.GROUPING.UPDATE", "mamba", "MODEL.SLOTS.GROUPING.BO_QSA", bo_qsa]
    module = build_slot_grouping(get_cfg(None, options))
    tokens, slots = make_inputs()
    slots.requires_grad_()
    module(tokens, slots).slots.square().sum().backward()
    assert slots.grad.abs().min() > 0
    assert all(p.grad.abs().max() > 0 for p in module.parameters())


def test_the_default_is_the_published_unit_under_its_old_name():
    module = build_slot_grouping(get_cfg())
    assert isinstance(module.update, GRUUpdate)
    assert "update.gru.weight_ih" in module.state_dict()


def test_the_first_steps_are_large_enough_to_forget_within_a_few_iterations():
    steps = F.softplus(make(expand=4).select.step_bias)
    assert 0.01 <= steps.min() < 0.1 < steps.max() <= 1


def test_an_unknown_update_is_refused():
    with pytest.raises(ConfigError, match="unknown update 'lstm'; choose gru or mamba"):
        build_slot_grouping(get_cfg(None, ["MODEL.SLOTS.GROUPING.UPDATE", "lstm"]))
