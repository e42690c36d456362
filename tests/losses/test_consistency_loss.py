"""Agreement between scales: by hand, and what holds for all predictions."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slotseg.errors import ConfigError
from slotseg.losses import ScaleConsistencyLoss, ViewSpec
from slotseg.losses.consistency import divergence

HALF = ViewSpec(scale=0.5)
several = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
both_kinds = pytest.mark.parametrize("independent", [False, True], ids=["softmax", "sigmoid"])


def make_loss(class_weight=0.0, independent=False, scales=(0.5,)):
    return ScaleConsistencyLoss(
        weight=1.0, scales=scales, class_weight=class_weight, independent_masks=independent
    )


def log(*probabilities):
    return torch.tensor(probabilities).log()


def one_pixel(*probabilities):
    """Mask logits ``[1, K, 1, 1]`` whose softmax these are."""
    return log(*probabilities).view(1, -1, 1, 1)


def random_logits(seed, shape):
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_divergence_by_hand_and_who_teaches():
    first, second = log(0.5, 0.5).requires_grad_(), log(0.9, 0.1).requires_grad_()
    value = divergence(first, second, dim=0)
    expected = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert value.item() == pytest.approx(expected)
    value.backward()
    # The surer one gets no gradient: each entry of the other is asked for its teacher's share.
    torch.testing.assert_close(first.grad, torch.tensor([-0.9, -0.1]))
    assert not second.grad.any()


def test_the_surer_side_teaches_at_every_pixel(step_of):
    # Left the image is surer, right its view; the view has the image's size here.
    base = torch.stack([log(0.8, 0.2), log(0.6, 0.4)], dim=1).view(1, 2, 1, 2).requires_grad_()
    view = torch.stack([log(0.7, 0.3), log(0.9, 0.1)], dim=1).view(1, 2, 1, 2).requires_grad_()
    loss = make_loss()(step_of(base, views={HALF: (view, None, None)}))["loss_consistency"]
    left = 0.8 * math.log(0.8 / 0.7) + 0.2 * math.log(0.2 / 0.3)
    right = 0.9 * math.log(0.9 / 0.6) + 0.1 * math.log(0.1 / 0.4)
    assert loss.item() == pytest.approx((left + right) / 2, rel=1e-5)
    loss.backward()
    assert not base.grad[..., 0].any()
    assert base.grad[..., 1].all()
    assert view.grad[..., 0].all()
    assert not view.grad[..., 1].any()


def test_independent_masks_by_hand(step_of):
    # Two slots at two pixels; the second view differs in one number, and lists them in reverse.
    base = torch.tensor([[0.5, 0.1], [0.1, 0.8]]).logit().view(1, 2, 1, 2)
    view = torch.tensor([[0.1, 0.8], [0.9, 0.1]]).logit().view(1, 2, 1, 2)
    step = step_of(base, views={HALF: (view, None, None)})
    differing = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    value = make_loss(independent=True)(step)["loss_consistency"].item()
    # Summed over slots, mean over pixels.
    assert value == pytest.approx(differing / 2, rel=1e-5)


def test_classes_of_a_pair_count_as_much_as_its_masks_overlap(step_of):
    # Slot 0 holds two pixels in both views, slot 1 one, slot 2 none in either.
    owner = torch.tensor([0, 0, 1])
    masks = 40.0 * torch.nn.functional.one_hot(owner, 3).T.reshape(1, 3, 1, 3).float()
    masks[:, 2] = -1e4
    even, sure = log(0.5, 0.5), log(0.9, 0.1)
    step = step_of(
        masks,
        class_logits=torch.stack([even, sure, even])[None],
        views={HALF: (masks, None, torch.stack([sure, sure, sure])[None])},
    )
    differing = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    losses = make_loss(class_weight=2.0)(step)
    # Two pairs of overlap 1, of which one differs; the empty slots have no say.
    assert losses["loss_consistency_class"].item() == pytest.approx(2.0 * differing / 2, rel=1e-5)
    assert losses["loss_consistency"].item() == pytest.approx(0.0, abs=1e-6)


@both_kinds
@several
@given(seed=st.integers(0, 2**16), count=st.integers(1, 5), weight=st.floats(0.1, 3.0))
def test_identical_views_in_any_order_of_slots_cost_nothing(
    step_of, independent, seed, count, weight
):
    masks = random_logits(seed, (2, count, 3, 4))
    classes = random_logits(seed + 1, (2, count, 3))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    view = (masks[:, order], None, classes[:, order])
    losses = make_loss(weight, independent)(step_of(masks, None, classes, views={HALF: view}))
    assert set(losses) == {"loss_consistency", "loss_consistency_class"}
    for value in losses.values():
        assert value.item() == pytest.approx(0.0, abs=1e-5)


@both_kinds
@several
@given(seed=st.integers(0, 2**16), count=st.integers(2, 5))
def test_never_below_zero_and_blind_to_the_order_of_slots(step_of, independent, seed, count):
    masks, classes = random_logits(seed, (2, count, 4, 4)), random_logits(seed + 1, (2, count, 3))
    view = (random_logits(seed + 2, (2, count, 2, 2)), None, random_logits(seed + 3, (2, count, 3)))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    loss = make_loss(1.0, independent)
    there = loss(step_of(masks, None, classes, views={HALF: view}))
    shuffled = loss(step_of(masks[:, order], None, classes[:, order], views={HALF: view}))
    for name, value in there.items():
        assert value.item() >= -1e-6
        torch.testing.assert_close(shuffled[name], value, rtol=1e-4, atol=1e-6)


def test_several_scales_are_averaged(step_of):
    double = ViewSpec(scale=2.0)
    base, same, other = one_pixel(0.5, 0.5), one_pixel(0.5, 0.5), one_pixel(0.9, 0.1)
    views = {HALF: (other, None, None), double: (same, None, None)}
    loss = make_loss(scales=(0.5, 2.0))
    assert loss.views == (HALF, double)
    alone = make_loss()(step_of(base, views=views))["loss_consistency"]
    both = loss(step_of(base, views=views))["loss_consistency"]
    assert alone.item() > 0.1
    torch.testing.assert_close(both, alone / 2)


@both_kinds
def test_descent_brings_the_views_together(step_of, independent):
    base, view = (random_logits(seed, (1, 3, 4, 4)).requires_grad_() for seed in (0, 1))
    loss, values = make_loss(independent=independent), []
    optimizer = torch.optim.Adam([base, view], lr=0.2)
    for _ in range(60):
        value = loss(step_of(base, views={HALF: (view, None, None)}))["loss_consistency"]
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.1 * values[0]


@both_kinds
def test_saturated_masks_have_finite_losses_and_gradients(step_of, independent):
    base = (1e4 * random_logits(0, (1, 3, 4, 4)).sign()).bfloat16().requires_grad_()
    view = (1e4 * random_logits(1, (1, 3, 2, 2)).sign()).bfloat16()
    loss = make_loss(independent=independent)(step_of(base, views={HALF: (view, None, None)}))
    loss["loss_consistency"].backward()
    assert loss["loss_consistency"].dtype == torch.float32
    assert torch.isfinite(loss["loss_consistency"])
    assert torch.isfinite(base.grad).all()


@pytest.mark.parametrize("scales", [(), (1.0,), (0.5, 0.0)], ids=["none", "itself", "zero"])
def test_scales_have_to_be_other_views(scales):
    with pytest.raises(ConfigError, match=r"LOSSES\.CONSISTENCY\.SCALES.*such as 0\.5"):
        make_loss(scales=scales)
