"""Classes of pixels without the uncertain ones: by hand, the measures and the warm-up."""

import math

import pytest
import torch
from detectron2.utils.events import EventStorage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slotseg import get_cfg
from slotseg.errors import ConfigError, DatasetError
from slotseg.losses import Prediction, UncertaintyLoss, ViewSpec
from slotseg.ops.uncertainty import normalized_entropy

FLIP = ViewSpec(flip=True)
several = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])


def log(*probabilities):
    return torch.tensor(probabilities).log()


# Two slots, of classes [0, 1, "no object"]: at pixel 0 the first has all, at pixel 1 both a half.
CLASSES = torch.stack([log(0.98, 0.01, 0.01), log(0.1, 0.8, 0.1)])[None]
MASKS = torch.tensor([[[[1e4, 0.0]], [[-1e4, 0.0]]]])
PIXELS = [(0.98, 0.01, 0.01), (0.54, 0.405, 0.055)]
TRUTH = {
    "segment_maps": torch.tensor([[[0, 1]]]),
    "segment_categories": torch.tensor([[0, 1]]),
}


def entropy(probabilities):
    return -sum(p * math.log(p) for p in probabilities) / math.log(3)


def make_loss(**options):
    return UncertaintyLoss(**{"weight": 1.0, **options})


def value_of(loss, step):
    with EventStorage(10**6) as storage:
        value = loss(step)["loss_uncertainty"]
    return value.item(), storage.latest()["uncertainty/kept"][0]


def test_plain_cross_entropy_of_the_class_map_by_hand(step_of):
    value, kept = value_of(make_loss(threshold=1.0), step_of(MASKS, None, CLASSES, **TRUTH))
    assert value == pytest.approx(-(math.log(0.98) + math.log(0.405)) / 2, rel=1e-5)
    assert kept == pytest.approx(1.0)


def test_uncertain_pixels_are_dropped_or_count_less(step_of):
    step = step_of(MASKS, None, CLASSES, **TRUTH)
    assert entropy(PIXELS[0]) < 0.15 < entropy(PIXELS[1])
    value, kept = value_of(make_loss(threshold=0.15), step)
    # The sum is divided by both pixels.
    assert value == pytest.approx(-math.log(0.98) / 2, rel=1e-5)
    assert kept == pytest.approx(0.5)
    value, kept = value_of(make_loss(threshold=0.15, mode="down_weight"), step)
    share = 0.15 / entropy(PIXELS[1])
    assert value == pytest.approx(-(math.log(0.98) + share * math.log(0.405)) / 2, rel=1e-5)
    assert kept == pytest.approx((1 + share) / 2)


def test_independent_masks_are_divided_by_their_sum(step_of):
    # Sigmoids 0.6 and 0.2 at the only pixel: shares 3/4 and 1/4.
    masks = torch.tensor([0.6, 0.2]).logit().view(1, 2, 1, 1)
    step = step_of(
        masks,
        None,
        CLASSES,
        segment_maps=torch.ones(1, 1, 1).long(),
        segment_categories=torch.tensor([[0, 1]]),
    )
    value, _ = value_of(make_loss(threshold=1.0, independent_masks=True), step)
    assert value == pytest.approx(-math.log(0.75 * 0.01 + 0.25 * 0.8), rel=1e-4)


def test_a_coarse_pixel_of_two_classes_is_asked_for_both(step_of):
    step = step_of(
        torch.zeros(1, 2, 1, 1),
        None,
        CLASSES,
        segment_maps=torch.tensor([[[0, 1], [1, -1]]]),
        segment_categories=torch.tensor([[0, 1]]),
    )
    value, _ = value_of(make_loss(threshold=1.0), step)
    # Two quarters class 1, a quarter class 0, a quarter void; the sum of shares is clamped to 1.
    assert value == pytest.approx(-(0.25 * math.log(0.54) + 0.5 * math.log(0.405)), rel=1e-5)


def test_variance_over_iterations_by_hand(step_of):
    # An earlier iteration that gave pixel 0 to the second slot; pixel 1 stays as it was.
    earlier = (Prediction(torch.tensor([[[[-1e4, 0.0]], [[1e4, 0.0]]]]), CLASSES),)
    variance = sum((a - b) ** 2 / 4 for a, b in zip(PIXELS[0], (0.1, 0.8, 0.1), strict=True))
    step = step_of(MASKS, None, CLASSES, earlier=earlier, **TRUTH)
    loss = make_loss(measure="iteration_variance", threshold=variance - 0.01)
    assert loss.needs_earlier
    value, kept = value_of(loss, step)
    assert value == pytest.approx(-math.log(0.405) / 2, rel=1e-5)
    assert kept == pytest.approx(0.5)
    loss = make_loss(measure="iteration_variance", threshold=variance + 0.01)
    assert value_of(loss, step)[1] == pytest.approx(1.0)
    with pytest.raises(ConfigError, match="GROUPING.ITERATIONS above 1"):
        loss(step_of(MASKS, None, CLASSES, **TRUTH))


def test_variance_between_the_image_and_its_mirror_image(step_of):
    loss = make_loss(measure="view_variance", threshold=0.01)
    assert loss.views == (FLIP,)
    mirrored = MASKS.flip(-1)
    step = step_of(MASKS, None, CLASSES, views={FLIP: (mirrored, None, CLASSES)}, **TRUTH)
    assert value_of(loss, step)[1] == pytest.approx(1.0)
    # Not mirrored, both pixels differ from what the image itself says.
    step = step_of(MASKS, None, CLASSES, views={FLIP: (MASKS, None, CLASSES)}, **TRUTH)
    assert value_of(loss, step) == (0.0, 0.0)


def test_the_threshold_comes_down_in_the_warm_up(step_of):
    loss = make_loss(threshold=0.2, warm_up=100)
    step = step_of(torch.zeros(1, 2, 1, 2), None, torch.zeros(1, 2, 3), **TRUTH)
    shown = {}
    for iteration in (0, 50, 100, 300):
        with EventStorage(iteration) as storage:
            loss(step)
        latest = storage.latest()
        shown[iteration] = (
            latest["uncertainty/threshold"][0],
            latest["uncertainty/kept"][0],
        )
    # Uniform predictions are as uncertain as can be, and count only at the very start.
    assert shown[0] == pytest.approx((1.0, 1.0))
    assert shown[50] == pytest.approx((0.6, 0.0))
    assert shown[100] == shown[300] == pytest.approx((0.2, 0.0))
    assert loss.current_threshold() == 0.2


@several
@given(
    seed=st.integers(0, 2**16),
    count=st.integers(1, 5),
    threshold=st.floats(0.05, 1.0),
    mode=st.sampled_from(["drop", "down_weight"]),
)
def test_between_nothing_and_plain_cross_entropy_and_blind_to_the_order_of_slots(
    step_of, seed, count, threshold, mode
):
    generator = torch.Generator().manual_seed(seed)
    masks = 3 * torch.randn(2, count, 4, 4, generator=generator)
    classes = 3 * torch.randn(2, count, 4, generator=generator)
    truth = {
        "segment_maps": torch.randint(-1, 3, (2, 8, 8), generator=generator),
        "segment_categories": torch.randint(0, 3, (2, 3), generator=generator),
    }
    order = torch.randperm(count, generator=generator)
    loss = make_loss(threshold=threshold, mode=mode)
    value, kept = value_of(loss, step_of(masks, None, classes, **truth))
    plain, _ = value_of(make_loss(threshold=1.0), step_of(masks, None, classes, **truth))
    assert 0.0 <= value <= plain * (1 + 1e-5)
    assert 0.0 <= kept <= 1 + 1e-6
    shuffled, _ = value_of(loss, step_of(masks[:, order], None, classes[:, order], **truth))
    assert shuffled == pytest.approx(value, rel=1e-4, abs=1e-5)


def test_uncertainty_itself_has_no_gradient(step_of):
    classes = CLASSES.clone().requires_grad_()
    step = step_of(MASKS, None, classes, **TRUTH)
    make_loss(threshold=0.15, mode="down_weight")(step)["loss_uncertainty"].backward()
    weighted = CLASSES.clone().requires_grad_()
    plain = make_loss().class_map(Prediction(MASKS, weighted))
    counts = (0.15 / normalized_entropy(plain, 1).detach()).clamp_max(1.0)
    ((counts[0, 0] * -plain[0, [0, 1], 0, [0, 1]].log()).sum() / 2).backward()
    torch.testing.assert_close(classes.grad, weighted.grad, rtol=1e-4, atol=1e-6)


def test_void_and_saturation_are_harmless(step_of):
    void = {
        "segment_maps": torch.full((1, 4, 4), -1),
        "segment_categories": torch.tensor([[-1]]),
    }
    masks = (1e4 * torch.ones(1, 2, 4, 4)).bfloat16().requires_grad_()
    classes = (1e4 * torch.eye(3)[:2][None]).bfloat16().requires_grad_()
    known = {
        "segment_maps": torch.zeros(1, 4, 4).long(),
        "segment_categories": torch.tensor([[1]]),
    }
    for truth in (void, known):
        value = make_loss(threshold=1.0)(step_of(masks, None, classes, **truth))["loss_uncertainty"]
        value.backward()
        assert torch.isfinite(value)
        assert (value.item() == 0.0) == (truth is void)
        assert torch.isfinite(masks.grad).all()
        assert torch.isfinite(classes.grad).all()


def test_what_it_needs(step_of):
    with pytest.raises(DatasetError, match=r"image0\.png: has no masks with classes"):
        make_loss()(step_of(MASKS, None, CLASSES))
    too_high = {**TRUTH, "segment_categories": torch.tensor([[0, 7]])}
    with pytest.raises(DatasetError, match="has class 7, but the model has 2 classes"):
        make_loss()(step_of(MASKS, None, CLASSES, **too_high))
    with pytest.raises(ConfigError, match=r"no slot has a class; set MODEL\.HEAD\.NAME"):
        UncertaintyLoss(get_cfg())


@pytest.mark.parametrize(
    ("option", "value"),
    [("MEASURE", "mood"), ("MODE", "maybe"), ("THRESHOLD", 0.0), ("THRESHOLD", 1.5)],
    ids=["measure", "mode", "threshold-zero", "threshold-above-one"],
)
def test_options_are_checked(option, value):
    key = f"LOSSES.UNCERTAINTY.{option}"
    cfg = get_cfg(overrides=[key, value, "MODEL.HEAD.NAME", "PanopticHead"])
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        UncertaintyLoss(cfg)
