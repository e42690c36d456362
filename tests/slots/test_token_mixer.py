import pytest
import torch
import torch.nn.functional as F

from slotseg import get_cfg
from slotseg.errors import ConfigError
from slotseg.slots import Tokens, build_slot_grouping
from slotseg.slots.token_mixer import MambaTokenMixer

DIM = 6


def make(expand=2, state_dim=3):
    torch.manual_seed(0)
    return MambaTokenMixer(dim=DIM, expand=expand, state_dim=state_dim)


def make_tokens(grid=(3, 5), batch=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(batch, grid[0] * grid[1], DIM, generator=generator, dtype=dtype)
    return Tokens(values, grid)


def walk(module, direction, pixels):
    """The outputs of one direction for ``pixels`` ``[L, E]`` in the order of the walk."""
    select = module.select
    channels, rank, states = pixels.shape[1], select.rank, select.state_dim
    mine = slice(direction * channels, (direction + 1) * channels)
    state, outputs = pixels.new_zeros(channels, states), []
    for x in pixels:
        selected = select.select_weight[direction] @ x
        steps, into, readout = selected.split([rank, states, states])
        steps = F.softplus(select.step_weight[direction] @ steps + select.step_bias[mine])
        for channel in range(channels):
            decay = torch.exp(-steps[channel] * select.log_decay[mine][channel].exp())
            new = steps[channel] * x[channel] * into
            state = torch.cat(
                [state[:channel], (decay * state[channel] + new)[None], state[channel + 1 :]]
            )
        outputs.append(state @ readout + select.skip[mine] * x)
    return torch.stack(outputs)


def test_scans_walk_rows_and_columns_both_ways():
    module, height, width = make().double(), 3, 5
    x = make_tokens((height, width), batch=1, dtype=torch.float64).values.repeat(1, 1, 2)
    rows = [(i, j) for i in range(height) for j in range(width)]
    columns = [(i, j) for j in range(width) for i in range(height)]
    expected = torch.zeros_like(x[0])
    for direction, order in enumerate([rows, columns, rows[::-1], columns[::-1]]):
        places = [i * width + j for i, j in order]
        outputs = walk(module, direction, x[0, places])
        for place, y in zip(places, outputs, strict=True):
            expected[place] += y
    torch.testing.assert_close(module.scan(x, (height, width))[0], expected)


def test_every_pixel_knows_of_every_other():
    # Far corners would be out of reach of the convolution alone.
    tokens = make_tokens(grid=(6, 7))
    tokens.values.requires_grad_()
    out = make()(tokens).values
    for place in (0, 20, 41):
        (grad,) = torch.autograd.grad(
            out[0, place].square().sum(), tokens.values, retain_graph=True
        )
        assert grad[0].abs().amax(dim=-1).min() > 0
        assert grad[1].abs().max() == 0


@pytest.mark.parametrize("grid", [(1, 1), (1, 8), (8, 1), (4, 3)], ids=str)
def test_any_grid(grid):
    tokens = make_tokens(grid)
    mixed = make()(tokens)
    assert mixed.grid == grid
    assert mixed.values.shape == tokens.values.shape
    assert torch.isfinite(mixed.values).all()


def test_turning_the_map_swaps_the_directions_of_the_scan():
    """With the parameters of rows and columns exchanged, a transposed map gives a transposed."""
    module, swapped = make(), make()
    with torch.no_grad():
        for name, parameter in swapped.select.named_parameters():
            parts = getattr(module.select, name).unflatten(0, (4, -1))
            parameter.copy_(parts[[1, 0, 3, 2]].reshape(parameter.shape))
    x = make_tokens((3, 5)).values.repeat(1, 1, 2)
    turned = x.unflatten(1, (3, 5)).transpose(1, 2).flatten(1, 2)
    expected = module.scan(x, (3, 5)).unflatten(1, (3, 5)).transpose(1, 2).flatten(1, 2)
    torch.testing.assert_close(swapped.scan(turned, (5, 3)), expected)


def test_the_order_of_pixels_counts():
    """Unlike Slot Attention's own, this step is not equivariant to permuted pixels."""
    module, tokens = make(), make_tokens()
    order = torch.randperm(15, generator=torch.Generator().manual_seed(2))
    permuted = module(Tokens(tokens.values[:, order], tokens.grid)).values
    assert (permuted - module(tokens).values[:, order]).abs().max() > 1e-3


def test_under_autocast_the_result_is_close():
    module, tokens = make(), make_tokens()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = module(tokens).values
    torch.testing.assert_close(mixed.float(), module(tokens).values, rtol=0.05, atol=0.05)


def test_steps_start_inside_their_range():
    steps = F.softplus(make(expand=4).select.step_bias)
    assert 0.001 <= steps.min() < 0.01 < steps.max() <= 0.1


@pytest.mark.parametrize("name", ["SlotAttention", "NestedSlotAttention"])
def test_groupings_mix_their_tokens_if_asked(name):
    options = ["MODEL.SLOTS.GROUPING.NAME", name, "MODEL.SLOTS.DIM", DIM]
    mixing = ["MODEL.SLOTS.GROUPING.TOKEN_MIXER", "mamba"]
    plain, mixed = (build_slot_grouping(get_cfg(None, options + more)) for more in ([], mixing))
    added = {key for key in mixed.state_dict() if key not in plain.state_dict()}
    assert added and all(key.startswith("token_mixer.") for key in added)
    tokens, slots = make_tokens(), torch.randn(2, 3, DIM)
    mixed(tokens, slots).slots.square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in mixed.token_mixer.parameters())
    mixed.load_state_dict(plain.state_dict(), strict=False)
    difference = mixed(tokens, slots).attention - plain(tokens, slots).attention
    assert difference.abs().max() > 1e-4


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("GROUPING.TOKEN_MIXER", "mixer", "unknown mixer 'mixer'; choose none or mamba"),
        ("MAMBA.EXPAND", 0, "MAMBA.EXPAND is 0; give at least 1"),
        ("MAMBA.STATE_DIM", -1, "MAMBA.STATE_DIM is -1; give at least 1"),
    ],
)
def test_impossible_options_are_refused(key, value, message):
    options = ["MODEL.SLOTS.GROUPING.TOKEN_MIXER", "mamba", f"MODEL.SLOTS.{key}", value]
    with pytest.raises(ConfigError, match=message):
        build_slot_grouping(get_cfg(None, options))
