"""Independent masks, sampled points and losses on earlier iterations."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slotseg.decoders import Decoded
from slotseg.errors import ConfigError, NonFiniteLossError
from slotseg.losses import MaskLoss, MaskMatcher, Prediction, TrainingStep
from slotseg.losses.classes import ClassLoss
from slotseg.losses.points import PointSampler
from slotseg.slots import InitialSlots, SlotState

VOID = -1
POINTS = PointSampler(count=64)
KINDS = {
    "softmax-ce": {"pixel_loss": "ce"},
    "softmax-bce": {"pixel_loss": "bce"},
    "sigmoid": {"pixel_loss": "bce", "independent": True},
    "softmax-ce-points": {"pixel_loss": "ce", "points": POINTS},
    "softmax-bce-points": {"pixel_loss": "bce", "points": POINTS},
    "sigmoid-points": {"pixel_loss": "bce", "independent": True, "points": POINTS},
}
every_kind = pytest.mark.parametrize("kind", list(KINDS))


def make_step(logits, maps, class_logits=None, categories=None, earlier=()):
    batch, num_slots = logits.shape[:2]
    return TrainingStep(
        images=torch.zeros(batch, 3, 4, 4),
        features={},
        initial=InitialSlots(torch.zeros(batch, num_slots, 4)),
        slots=SlotState(torch.zeros(batch, num_slots, 4), torch.ones(1)),
        decoded=[Decoded(logits)],
        class_logits=class_logits,
        earlier=tuple(earlier),
        segment_maps=maps,
        file_names=tuple(f"image{i}.png" for i in range(batch)),
        segment_categories=categories,
    )


def make_loss(kind="sigmoid", classes=False, **changes):
    return MaskLoss(
        **{
            "pixel_weight": 1.0,
            "dice_weight": 1.0,
            "attention_weight": 0.0,
            "matcher": MaskMatcher(1.0, 1.0, 1.0),
            "classes": ClassLoss(1.0, 0.1) if classes else None,
            **KINDS[kind],
            **changes,
        }
    )


def owned(maps, slot_of, num_slots, sharpness):
    """Logits under which slot_of[s] holds segment s, and nobody holds void."""
    owner = torch.tensor([*slot_of, num_slots])[maps]
    inside = torch.nn.functional.one_hot(owner, num_slots + 1)[..., :num_slots]
    return sharpness * (2.0 * inside.permute(0, 3, 1, 2).float() - 1.0)


MAPS = torch.tensor([[[0, 0, 0, 0], [0, 1, 1, 0], [2, 2, 0, 0], [2, 2, 0, 0]]])


def test_independent_masks_by_hand():
    # Segments: the left and the right pixel. Slot 0 says 1/2 and 1/4, slot 1 1/5 and 4/5.
    masks = torch.tensor([[[[1 / 2, 1 / 4]], [[1 / 5, 4 / 5]]]])
    step = make_step(torch.logit(masks), torch.tensor([[[0, 1]]]))
    losses = make_loss()(step)
    entropy = -(math.log(1 / 2) + math.log(3 / 4) + math.log(4 / 5) + math.log(4 / 5)) / 4
    dice = [1 - (2 * 1 / 2 + 1) / (3 / 4 + 1 + 1), 1 - (2 * 4 / 5 + 1) / (1 + 1 + 1)]
    assert losses["loss_mask_pixel"].item() == pytest.approx(entropy, rel=1e-5)
    assert losses["loss_mask_dice"].item() == pytest.approx(sum(dice) / 2, rel=1e-5)


def test_the_matching_cost_of_independent_masks_by_hand():
    # Both slots hold the segment wholly; slot 0 claims the other pixel as well, which a cross
    # entropy over the segment's own pixels would not see.
    masks = torch.tensor([[[0.9, 0.8], [0.9, 0.1]]])
    truth = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    matcher = MaskMatcher(pixel_weight=1.0, dice_weight=0.0)
    cost = matcher._cost(masks.log(), torch.log1p(-masks), truth)
    expected = [[0.9 * 0.2, 0.1 * 0.8], [0.9 * 0.9, 0.1 * 0.1]]
    torch.testing.assert_close(cost, -torch.tensor([expected]).log() / 2)
    slot_of = matcher(masks.log(), truth, ["a.png"], log_others=torch.log1p(-masks))
    assert slot_of.tolist() == [[1, 0]]


@every_kind
def test_perfect_masks_cost_nothing_whatever_the_order_of_slots(kind):
    for slot_of in ([0, 1, 2], [3, 0, 2]):
        loss = make_loss(kind)(make_step(owned(MAPS, slot_of, 4, 40.0), MAPS))
        if "points" not in kind:
            assert loss["loss_mask_pixel"].item() == pytest.approx(0.0, abs=1e-4)
            assert loss["loss_mask_dice"].item() == pytest.approx(0.0, abs=1e-4)
            continue
        # Points between two pixels are of both, which sure masks cannot be: there it costs.
        few = {"points": PointSampler(2000, 1.0, 0.0)}
        maps = MAPS.repeat_interleave(32, 1).repeat_interleave(32, 2)
        perfect = make_loss(kind, **few)(make_step(owned(maps, slot_of, 4, 40.0), maps))
        uniform = make_loss(kind, **few)(make_step(torch.zeros(1, 4, 128, 128), maps))
        for name in perfect:
            assert perfect[name] < 0.2 * uniform[name]
            assert loss[name] < 10.0


def test_uniform_points_estimate_the_loss_over_all_pixels():
    maps = MAPS.repeat_interleave(16, 1).repeat_interleave(16, 2)
    coarse = owned(MAPS, [0, 1, 2], 3, 1.0) + torch.randn(1, 3, 4, 4)
    logits = torch.nn.functional.interpolate(coarse, (64, 64), mode="bilinear")
    for kind in ("softmax-ce", "softmax-bce", "sigmoid"):
        step = make_step(logits, maps)
        whole = make_loss(kind)(step)
        sampled = make_loss(kind, points=PointSampler(20000, 1.0, 0.0))(step)
        for name, value in whole.items():
            assert sampled[name].item() == pytest.approx(value.item(), rel=0.05)


@every_kind
def test_void_pixels_have_no_influence(kind):
    maps = MAPS.repeat_interleave(2, 1).repeat_interleave(2, 2)
    maps[:, :, -3:] = VOID
    logits = owned(maps, [0, 1, 2], 4, 2.0)
    gradients = []
    for noise in (0.0, 3.0):
        leaf = logits.clone()
        leaf[..., -2:] += noise * torch.randn(1, 4, 8, 2)
        leaf.requires_grad_()
        torch.manual_seed(5)
        sum(make_loss(kind)(make_step(leaf, maps)).values()).backward()
        gradients.append(leaf.grad)
    # The column beside the segments is read by points between the two.
    assert gradients[0][..., -2:].abs().sum() == 0
    assert gradients[0][..., :-3].abs().sum() > 0
    if "points" not in kind:
        torch.testing.assert_close(gradients[0][..., :-2], gradients[1][..., :-2])


@every_kind
@pytest.mark.parametrize("case", ["void", "no_segments"])
def test_a_batch_that_teaches_nothing_costs_nothing_and_has_gradients(kind, case):
    maps = torch.full((2, 8, 8), VOID)
    categories = torch.full((2, 1), -1) if case == "no_segments" else torch.ones(2, 3).long()
    logits = torch.randn(2, 4, 8, 8, requires_grad=True)
    class_logits = torch.randn(2, 4, 3, requires_grad=True)
    losses = make_loss(kind, classes=True)(make_step(logits, maps, class_logits, categories))
    assert {name: loss.item() for name, loss in losses.items()} == dict.fromkeys(
        ("loss_class", "loss_mask_pixel", "loss_mask_dice"), 0.0
    )
    sum(losses.values()).backward()
    assert logits.grad.abs().sum() == 0 and class_logits.grad.abs().sum() == 0


@every_kind
def test_an_image_without_truth_beside_one_with_it(kind):
    maps = torch.cat([MAPS, torch.full_like(MAPS, VOID)])
    logits = torch.randn(2, 4, 4, 4, requires_grad=True)
    sum(make_loss(kind)(make_step(logits, maps)).values()).backward()
    assert logits.grad[0].abs().sum() > 0 and torch.isfinite(logits.grad).all()
    assert logits.grad[1].abs().sum() == 0


@every_kind
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_huge_logits_in_bfloat16_stay_finite(kind, sign):
    logits = sign * owned(MAPS, [2, 1, 0], 4, 1e4).bfloat16()
    logits.requires_grad_()
    class_logits = (1e4 * torch.randn(1, 4, 3)).bfloat16().requires_grad_()
    step = make_step(logits, MAPS, class_logits, torch.tensor([[0, 1, 1]]))
    losses = make_loss(kind, classes=True)(step)
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert logits.grad.isfinite().all() and class_logits.grad.isfinite().all()


@every_kind
def test_nan_names_the_file(kind):
    logits = torch.zeros(2, 3, 4, 4)
    logits[1] = float("nan")
    with pytest.raises(NonFiniteLossError, match="not finite for image1.png;"):
        make_loss(kind)(make_step(logits, MAPS.expand(2, -1, -1)))


@every_kind
def test_a_segment_that_points_miss_is_matched_all_the_same(kind):
    maps = torch.zeros(1, 64, 64, dtype=torch.int64)
    maps[0, 5, 7] = 1
    class_logits = torch.zeros(1, 2, 3, requires_grad=True)
    few = {"points": PointSampler(4)} if "points" in kind else {}
    step = make_step(torch.zeros(1, 2, 64, 64), maps, class_logits, torch.tensor([[0, 1]]))
    make_loss(kind, classes=True, **few)(step)["loss_class"].backward()
    # Two segments, two slots: one is asked for class 0 and one for class 1.
    assert sorted(class_logits.grad[0].argmin(dim=1).tolist()) == [0, 1]


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from(["softmax-ce", "softmax-bce", "sigmoid"]))
def test_the_order_of_slots_and_segments_does_not_matter(seed, kind):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randint(-1, 3, (2, 6, 6), generator=generator)
    logits = torch.randn(2, 5, 6, 6, generator=generator)
    class_logits = torch.randn(2, 5, 4, generator=generator)
    categories = torch.randint(0, 3, (2, 3), generator=generator)
    loss = make_loss(kind, classes=True)
    slots, segments = torch.randperm(5, generator=generator), torch.tensor([2, 0, 1])
    renamed = torch.where(maps < 0, maps, segments[maps.clamp_min(0)])
    one = loss(make_step(logits, maps, class_logits, categories))
    other = loss(
        make_step(
            logits[:, slots], renamed, class_logits[:, slots], categories[:, segments.argsort()]
        )
    )
    for name, value in one.items():
        assert other[name].item() == pytest.approx(value.item(), rel=1e-4, abs=1e-5)


def test_every_earlier_iteration_is_matched_anew_and_weighted():
    class_logits = torch.zeros(1, 3, 2)
    categories = torch.zeros(1, 3, dtype=torch.int64)
    perfect = owned(MAPS, [1, 2, 0], 3, 30.0)
    uniform = torch.zeros(1, 3, 4, 4)
    earlier = [Prediction(perfect, class_logits), Prediction(uniform, class_logits)]
    last = owned(MAPS, [0, 1, 2], 3, 30.0)
    step = make_step(last, MAPS, class_logits, categories, earlier)
    losses = make_loss("softmax-ce", classes=True, auxiliary_weight=0.5)(step)
    assert set(losses) == {
        "loss_class", "loss_mask_pixel", "loss_mask_dice",
        "loss_auxiliary_class", "loss_auxiliary_mask_pixel", "loss_auxiliary_mask_dice",
    }  # fmt: skip
    # The first is perfect under an order of its own, the second costs log 3 a pixel.
    assert losses["loss_auxiliary_mask_pixel"].item() == pytest.approx(0.5 * math.log(3), rel=1e-4)
    assert losses["loss_auxiliary_class"].item() == pytest.approx(0.5 * 2 * math.log(2), rel=1e-4)
    assert losses["loss_mask_pixel"].item() == pytest.approx(0.0, abs=1e-4)


def test_a_cross_entropy_over_slots_does_not_go_with_independent_masks():
    with pytest.raises(ConfigError, match="LOSSES.MASKS.PIXEL_LOSS is 'ce'.*choose 'bce'"):
        make_loss("sigmoid", pixel_loss="ce")
