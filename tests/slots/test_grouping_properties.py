"""What holds for every grouping, whatever its options: symmetries, sums and gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slotseg import get_cfg
from slotseg.ops.hierarchy import parent_masks
from slotseg.slots import Tokens, build_slot_grouping

DIM = 8
NESTED = {"NAME": "NestedSlotAttention", "SUB_SLOTS": 2}
VARIANTS = {
    "plain": {},
    "bo_qsa": {"BO_QSA": True},
    "self_attention": {"SELF_ATTENTION_HEADS": 2},
    "mamba_update": {"UPDATE": "mamba"},
    "mamba_update-bo_qsa": {"UPDATE": "mamba", "BO_QSA": True},
    "nested": NESTED,
    "nested-bo_qsa-self_attention": {**NESTED, "BO_QSA": True, "SELF_ATTENTION_HEADS": 2},
    "nested-mamba_update": {**NESTED, "UPDATE": "mamba"},
    "nested-mamba_update-bo_qsa": {**NESTED, "UPDATE": "mamba", "BO_QSA": True},
}
# Scans over the pixels in the order of the map: pixels are not exchangeable, nor meant to be.
ORDERED = {
    "mamba_mixer": {"TOKEN_MIXER": "mamba"},
    "nested-mamba_mixer": {**NESTED, "TOKEN_MIXER": "mamba"},
}

every_variant = pytest.mark.parametrize("variant", [*VARIANTS, *ORDERED])
every_symmetric_variant = pytest.mark.parametrize("variant", VARIANTS)
situations = given(
    seed=st.integers(0, 2**16),
    batch=st.integers(1, 2),
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    count=st.integers(1, 6),
    iterations=st.integers(1, 3),
)
few = settings(max_examples=10, deadline=None)


class Situation:
    """A grouping with weights far from their small initial values, and what it is given."""

    def __init__(self, variant, seed, batch, grid, count, iterations):
        options = {**VARIANTS, **ORDERED}[variant] | {"ITERATIONS": iterations, "MLP_DIM": 2 * DIM}
        overrides = ["MODEL.SLOTS.DIM", DIM]
        for name, value in options.items():
            overrides += [f"MODEL.SLOTS.GROUPING.{name}", value]
        torch.manual_seed(seed)
        self.grouping = build_slot_grouping(get_cfg(overrides=overrides)).double()
        for parameter in self.grouping.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        self.tokens = Tokens(torch.randn(batch, grid[0] * grid[1], DIM).double(), grid)
        self.initial = torch.randn(batch, count, DIM).double()

    def run(self):
        return self.grouping(self.tokens, self.initial)


def close(actual, expected):
    # The competition is rounded to float32 on purpose.
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


@every_variant
@few
@situations
def test_every_pixel_is_divided_among_the_slots(variant, **drawn):
    situation = Situation(variant, **drawn)
    state = situation.run()
    grid = situation.tokens.grid
    assert state.attention.dtype == torch.float32
    assert state.attention.shape[-2:] == grid
    assert state.slots.shape[:2] == state.attention.shape[:2]
    assert (state.attention >= 0).all()
    close(state.attention.sum(1), torch.ones(drawn["batch"], *grid))
    assert state.slots.isfinite().all()
    if state.parents is not None:
        assert state.parents.slots.shape == situation.initial.shape
        close(
            parent_masks(state.attention, state.parents.of, drawn["count"]),
            state.parents.attention,
        )


@every_variant
@few
@situations
def test_slots_follow_a_permutation_of_the_initial_slots(variant, **drawn):
    situation = Situation(variant, **drawn)
    before = situation.run()
    order = torch.randperm(drawn["count"])
    situation.initial = situation.initial[:, order]
    after = situation.run()
    moved = order
    if before.parents is not None:
        # Whole families move: those of the first parent in the new order come first.
        moved = torch.cat([(before.parents.of == parent).nonzero()[:, 0] for parent in order])
        close(after.parents.slots, before.parents.slots[:, order])
        close(after.parents.attention, before.parents.attention[:, order])
        assert torch.equal(after.parents.of, before.parents.of)
    close(after.slots, before.slots[:, moved])
    close(after.attention, before.attention[:, moved])


@every_symmetric_variant
@few
@situations
def test_attention_follows_a_permutation_of_the_pixels_and_slots_ignore_it(variant, **drawn):
    situation = Situation(variant, **drawn)
    before = situation.run()
    order = torch.randperm(situation.tokens.values.shape[1])
    situation.tokens = Tokens(situation.tokens.values[:, order], situation.tokens.grid)
    after = situation.run()
    close(after.slots, before.slots)
    close(after.attention.flatten(2), before.attention.flatten(2)[..., order])


@pytest.mark.parametrize("variant", ORDERED)
def test_a_token_mixer_reads_the_map_in_order(variant):
    situation = Situation(variant, seed=0, batch=1, grid=(3, 4), count=4, iterations=2)
    before = situation.run().slots
    situation.tokens = Tokens(situation.tokens.values.flip(1), situation.tokens.grid)
    assert not torch.allclose(situation.run().slots, before, atol=1e-2)


@every_variant
@few
@situations
def test_images_of_a_batch_do_not_touch_each_other(variant, **drawn):
    situation = Situation(variant, **drawn)
    together = situation.run()
    tokens, initial = situation.tokens, situation.initial
    for image in range(drawn["batch"]):
        situation.tokens = Tokens(tokens.values[image : image + 1], tokens.grid)
        situation.initial = initial[image : image + 1]
        close(situation.run().slots, together.slots[image : image + 1])


@every_variant
@few
@situations
def test_gradients_reach_every_initial_slot_and_every_weight(variant, **drawn):
    situation = Situation(variant, **drawn)
    situation.initial.requires_grad_()
    state = situation.run()
    # A generic direction: sums of squares can have exact zeros.
    (state.slots * torch.randn_like(state.slots)).sum().backward()
    assert (situation.initial.grad.norm(dim=-1) > 0).all()
    assert all(p.grad is not None for p in situation.grouping.parameters())


@pytest.mark.parametrize("variant", [name for name in VARIANTS if "bo_qsa" in name])
@few
@situations
def test_bo_qsa_changes_gradients_only_and_of_a_single_iteration_not_even_those(variant, **drawn):
    situation = Situation(variant, **drawn)
    situation.initial.requires_grad_()
    results = {}
    for bo_qsa in (True, False):
        situation.grouping.bo_qsa = bo_qsa
        state = situation.run()
        weighted = (state.slots * torch.linspace(-1, 1, DIM)).sum()
        (gradient,) = torch.autograd.grad(weighted, situation.initial)
        results[bo_qsa] = state.slots, gradient
    close(results[True][0], results[False][0])
    # A single slot is blind to its query: its attention is 1 everywhere.
    competing = drawn["count"] > 1 and situation.tokens.values.shape[1] > 1
    if drawn["iterations"] == 1:
        torch.testing.assert_close(results[True][1], results[False][1])
    elif competing:
        assert not torch.allclose(results[True][1], results[False][1], rtol=1e-6, atol=0.0)
