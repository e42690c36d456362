import pytest
import torch
from detectron2.modeling import build_model

from slotseg import get_cfg
from slotseg.config import num_slots
from slotseg.errors import ConfigError
from slotseg.ops.hierarchy import parent_masks
from slotseg.ops.similarity import mean_pairwise_cosine
from slotseg.slots import NestedSlotAttention, SlotAttention, Tokens, build_slot_grouping

PARENTS, SUBS, DIM, GRID = 3, 2, 8, (3, 4)


def make(sub_slots=SUBS, **options):
    torch.manual_seed(0)
    defaults = {"iterations": 3, "mlp_dim": 16, "epsilon": 1e-8, "bo_qsa": False}
    defaults["self_attention_heads"] = 0
    return NestedSlotAttention(dim=DIM, sub_slots=sub_slots, **{**defaults, **options})


def make_inputs(dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(2, GRID[0] * GRID[1], DIM, generator=generator, dtype=dtype)
    slots = torch.randn(2, PARENTS, DIM, generator=generator, dtype=dtype)
    return Tokens(values, GRID), slots


def written_out(module, tokens, initial):
    """One image, one pixel and one slot after the other; returns subs, shares and parent shares."""
    results = []
    for pixels, parents in zip(tokens.values, initial, strict=True):
        normed = [module.norm_tokens(pixel) for pixel in pixels]
        keys, values = [module.to_key(x) for x in normed], [module.to_value(x) for x in normed]
        subs = [[p + p.norm() * offset for offset in module.offsets] for p in parents]
        parents = list(parents)
        for _ in range(module.iterations):
            upper, lower = [], []
            for key in keys:
                wants = torch.stack([_query(module, p) @ key for p in parents])
                upper.append((wants / DIM**0.5).softmax(0))
                within = [
                    torch.stack([_sub_query(module, sub) @ key for sub in family])
                    for family in subs
                ]
                lower.append(
                    [
                        share * (w / DIM**0.5).softmax(0)
                        for share, w in zip(upper[-1], within, strict=True)
                    ]
                )
            parents = [
                _refined(module, parent, [share[m] for share in upper], values)
                for m, parent in enumerate(parents)
            ]
            subs = [
                [
                    _refined(module, sub, [share[m][s] for share in lower], values)
                    for s, sub in enumerate(family)
                ]
                for m, family in enumerate(subs)
            ]
        shares = torch.stack([torch.cat(share) for share in lower], dim=1)
        results.append(
            (torch.stack(sum(subs, [])), shares, torch.stack(upper, 1), torch.stack(parents))
        )
    return [torch.stack(parts) for parts in zip(*results, strict=True)]


def _query(module, slot):
    return module.to_query(module.norm_slots(slot))


def _sub_query(module, slot):
    return module.to_sub_query(module.norm_sub_slots(slot))


def _refined(module, slot, shares, values):
    weights = torch.stack(shares) + module.epsilon
    mean = sum(w * value for w, value in zip(weights / weights.sum(), values, strict=True))
    slot = module.update.gru(mean[None], slot[None])[0]
    return slot + module.mlp(module.norm_mlp(slot))


def test_equals_the_written_out_algorithm_in_float64():
    module = make().double()
    for name, parameter in module.named_parameters():
        if name != "offsets":
            torch.nn.init.normal_(parameter, std=0.4)
    tokens, initial = make_inputs(torch.float64)
    with torch.no_grad():
        state = module(tokens, initial)
        subs, shares, upper, parents = written_out(module, tokens, initial)
    tolerance = {"atol": 1e-6, "rtol": 0.0}
    torch.testing.assert_close(state.slots, subs, **tolerance)
    torch.testing.assert_close(state.parents.slots, parents, **tolerance)
    torch.testing.assert_close(state.attention.flatten(2).double(), shares, **tolerance)
    torch.testing.assert_close(state.parents.attention.flatten(2).double(), upper, **tolerance)


def test_every_parents_attention_is_divided_among_its_sub_slots():
    state = make()(*make_inputs())
    assert state.slots.shape == (2, PARENTS * SUBS, DIM)
    assert state.attention.shape == (2, PARENTS * SUBS, *GRID)
    assert state.parents.slots.shape == (2, PARENTS, DIM)
    assert state.parents.of.tolist() == [0, 0, 1, 1, 2, 2]
    sums = parent_masks(state.attention, state.parents.of, PARENTS)
    torch.testing.assert_close(sums, state.parents.attention)
    torch.testing.assert_close(state.parents.attention.sum(1), torch.ones(2, *GRID))
    # No sub-slot has all of its parent's share.
    assert (state.attention < sums[:, state.parents.of]).all()


def test_parents_do_not_depend_on_their_sub_slots():
    tokens, initial = make_inputs()
    nested = make()
    plain = SlotAttention(dim=DIM, iterations=3, mlp_dim=16, epsilon=1e-8, bo_qsa=False,
                          self_attention_heads=0)  # fmt: skip
    plain.load_state_dict(nested.state_dict(), strict=False)
    state, alone = nested(tokens, initial), plain(tokens, initial)
    torch.testing.assert_close(state.parents.slots, alone.slots)
    torch.testing.assert_close(state.parents.attention, alone.attention)


def test_a_single_sub_slot_sees_what_its_parent_sees():
    state = make(sub_slots=1)(*make_inputs())
    torch.testing.assert_close(state.attention, state.parents.attention)


def test_sub_slots_start_apart_whatever_the_length_of_their_parents():
    module = make()
    queries = torch.nn.init.orthogonal_(torch.empty(PARENTS, DIM))
    small = module.start_sub_slots(queries[None])
    large = module.start_sub_slots(100 * queries[None])
    torch.testing.assert_close(large, 100 * small)
    siblings = small[0].unflatten(0, (PARENTS, SUBS))
    assert (mean_pairwise_cosine(siblings) < 0.8).all()
    state = module(make_inputs()[0], queries.expand(2, -1, -1))
    families = state.slots.unflatten(1, (PARENTS, SUBS))
    assert (families[:, :, 0] - families[:, :, 1]).norm(dim=-1).min() > 0.1


def test_bo_qsa_gives_the_same_slots_and_teaches_queries_and_offsets():
    module, (tokens, initial) = make(bo_qsa=True), make_inputs()
    initial.requires_grad_()
    state = module(tokens, initial)
    state.slots.square().sum().backward()
    assert initial.grad.abs().min() > 0
    assert module.offsets.grad.abs().min() > 0
    module.bo_qsa = False
    torch.testing.assert_close(state.slots, module(tokens, initial).slots)


def test_bo_qsa_gives_both_levels_the_last_iterations_gradient():
    module, (tokens, initial) = make(bo_qsa=True).double(), make_inputs(torch.float64)
    initial.requires_grad_()
    module(tokens, initial).slots.sin().sum().backward()
    module.bo_qsa = False
    # One iteration from where the last one starts, moved as the initial slots move.
    module.iterations = 2
    before = module(tokens, initial.detach())
    moved = initial.detach().requires_grad_()
    start = module.start_sub_slots(moved)
    module.iterations = 1
    module.start_sub_slots = lambda parents: before.slots.detach() + start - start.detach()
    last = module(tokens, before.parents.slots.detach() + moved - moved.detach())
    last.slots.sin().sum().backward()
    torch.testing.assert_close(initial.grad, moved.grad, atol=1e-6, rtol=1e-4)


def test_every_weight_is_taught_by_the_sub_slots_alone():
    # Weights that only the unused last slots of the parents reach would stall distributed training.
    module = make(iterations=1, self_attention_heads=2)
    state = module(*make_inputs())
    (state.slots.square().sum() + state.attention.square().sum()).backward()
    untaught = [name for name, p in module.named_parameters() if p.grad is None]
    assert untaught == []


def test_competition_is_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        state = make()(*make_inputs())
    assert state.attention.dtype == state.parents.attention.dtype == torch.float32
    torch.testing.assert_close(state.attention.sum(1), torch.ones(2, *GRID))


@pytest.mark.parametrize("sub_slots", [0, DIM + 1])
def test_impossible_numbers_of_sub_slots_are_refused(sub_slots):
    message = rf"SUB_SLOTS is {sub_slots}; give 1 to MODEL\.SLOTS\.DIM = {DIM}"
    with pytest.raises(ConfigError, match=message):
        make(sub_slots=sub_slots)


def nested_cfg(*overrides):
    return get_cfg(overrides=["MODEL.SLOTS.GROUPING.NAME", "NestedSlotAttention",
                              "MODEL.SLOTS.NUM_SLOTS", PARENTS, "MODEL.SLOTS.GROUPING.SUB_SLOTS",
                              SUBS, *overrides])  # fmt: skip


def test_the_config_builds_it_and_counts_its_slots():
    cfg = nested_cfg()
    grouping = build_slot_grouping(cfg)
    assert isinstance(grouping, NestedSlotAttention)
    assert grouping.sub_slots == SUBS
    assert num_slots(cfg) == PARENTS * SUBS
    assert num_slots(get_cfg(overrides=["MODEL.SLOTS.NUM_SLOTS", 5])) == 5


def test_a_model_with_two_levels_learns_and_returns_both():
    cfg = nested_cfg("MODEL.DEVICE", "cpu", "MODEL.SLOTS.DIM", 16,
                     "MODEL.SIMPLE_CNN.CHANNELS", [8], "MODEL.SIMPLE_CNN.STRIDES", [2],
                     "MODEL.SLOTS.IN_FEATURE", "s2", "LOSSES.MASKS.WEIGHT", 1.0,
                     "LOSSES.MASKS.ATTENTION_WEIGHT", 1.0, "MODEL.SPATIAL_BROADCAST.CHANNELS", [8],
                     "MODEL.SPATIAL_BROADCAST.STRIDES", [2])  # fmt: skip
    torch.manual_seed(0)
    model = build_model(cfg)
    generator = torch.Generator().manual_seed(0)
    item = {
        "image": torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8, generator=generator),
        "segment_map": torch.arange(256).view(16, 16) // 64,
    }
    losses = model([item, item])
    sum(losses.values()).backward()
    assert model.grouping.offsets.grad.abs().max() > 0
    assert model.initializer.mean.grad.abs().max() > 0
    with torch.no_grad():
        output = model.eval()([item])[0]
    assert output["slots"].shape == (PARENTS * SUBS, 16)
    assert output["initial_slots"].shape == (PARENTS, 16)
    upper = parent_masks(output["slot_masks"], output["parent_of"], PARENTS)
    torch.testing.assert_close(upper.sum(0), torch.ones(16, 16))
    assert output["parent_attention"].shape == (PARENTS, 8, 8)
