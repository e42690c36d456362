import logging
import math

import pytest
import torch

from slotseg import get_cfg
from slotseg.decoders import Decoded
from slotseg.errors import ConfigError, DatasetError, NonFiniteLossError
from slotseg.losses import (
    DiversityLoss,
    MaskLoss,
    MaskMatcher,
    ReconstructionLoss,
    TrainingStep,
    build_losses,
)
from slotseg.losses.masks import coverage
from slotseg.slots import InitialSlots, SlotState


def make_step(slots=None, decoded=(), segment_maps=None, images=None, attention=None):
    batch = 1 if segment_maps is None else len(segment_maps)
    return TrainingStep(
        images=torch.zeros(batch, 3, 4, 4) if images is None else images,
        features={},
        initial=InitialSlots(torch.zeros(batch, 2, 4)),
        slots=SlotState(
            torch.zeros(batch, 2, 4) if slots is None else slots,
            torch.ones(1) if attention is None else attention,
        ),
        decoded=list(decoded),
        segment_maps=segment_maps,
        file_names=[f"image{i}.png" for i in range(batch)],
    )


def make_mask_loss(pixel_loss="ce", attention_weight=0.0):
    matcher = MaskMatcher(pixel_weight=0.2, dice_weight=1.0)
    return MaskLoss(
        pixel_loss=pixel_loss,
        pixel_weight=1.0,
        dice_weight=1.0,
        attention_weight=attention_weight,
        matcher=matcher,
    )


def logits_for(segment_maps, slot_of, num_slots, sharpness):
    """Logits under which slot_of[s] has segment s."""
    owner = torch.as_tensor(slot_of)[segment_maps]
    return sharpness * torch.nn.functional.one_hot(owner, num_slots).permute(0, 3, 1, 2).float()


def test_diversity_by_hand():
    slots = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
    loss = DiversityLoss(weight=0.01)(make_step(slots=slots))
    assert loss["loss_diversity"].item() == pytest.approx(0.01 / math.sqrt(2))


def test_reconstruction_by_hand():
    images = torch.full((1, 3, 4, 4), 0.5)
    decoded = [Decoded(None, torch.zeros(1, 3, 4, 4)), Decoded(torch.zeros(1, 2, 4, 4), None)]
    loss = ReconstructionLoss(weight=2.0)(make_step(images=images, decoded=decoded))
    assert loss["loss_reconstruction"].item() == pytest.approx(2.0 * 0.25)


def test_reconstruction_at_half_size_is_compared_with_the_averaged_image():
    images = torch.zeros(1, 3, 4, 4)
    images[..., ::2] = 1.0  # columns 1 0 1 0: every 2x2 block averages to 0.5
    decoded = [Decoded(None, torch.full((1, 3, 2, 2), 0.5))]
    loss = ReconstructionLoss(weight=1.0)(make_step(images=images, decoded=decoded))
    assert loss["loss_reconstruction"].item() == pytest.approx(0.0)


def test_coverage_averages_segments_and_leaves_void_out():
    segment_map = torch.tensor([[[0, 0, 1, 1], [0, 1, -1, -1]]])
    shares = coverage(segment_map, (1, 2))
    torch.testing.assert_close(shares, torch.tensor([[[[0.75, 0.0]], [[0.25, 0.5]]]]))


@pytest.mark.parametrize("size", [(4, 4), (2, 4), (1, 2), (3, 2)])
def test_coverage_counts_every_pixel_once(size):
    segment_map = torch.randint(-1, 5, (2, 4, 8), generator=torch.Generator().manual_seed(0))
    shares = coverage(segment_map, size)
    assert shares.shape == (2, 5, *size)
    if 4 % size[0] == 0:
        one_hot = torch.stack([(segment_map == s).float() for s in range(5)], dim=1)
        expected = torch.nn.functional.adaptive_avg_pool2d(one_hot, size)
        torch.testing.assert_close(shares, expected)
    known = coverage(torch.zeros_like(segment_map), size)
    torch.testing.assert_close(known, torch.ones_like(known))


def test_a_map_larger_than_the_image_has_void_between_its_pixels():
    shares = coverage(torch.tensor([[[0, 1, -1]]]), (2, 4))
    expected = torch.zeros(1, 2, 2, 4)
    expected[0, 0, 0, 0] = expected[0, 1, 0, 1] = 1.0
    assert torch.equal(shares, expected)


MAPS = torch.tensor([[[0, 0, 0, 0], [0, 1, 1, 0], [2, 2, 0, 0], [2, 2, 0, 0]]])


@pytest.mark.parametrize("pixel_loss", ["ce", "bce"])
def test_perfect_masks_cost_nothing_whatever_the_order_of_slots(pixel_loss):
    for slot_of in ([0, 1, 2], [3, 0, 2], [1, 3, 0]):
        decoded = [Decoded(logits_for(MAPS, slot_of, 4, sharpness=40.0))]
        loss = make_mask_loss(pixel_loss)(make_step(decoded=decoded, segment_maps=MAPS))
        assert loss["loss_mask_pixel"].item() == pytest.approx(0.0, abs=1e-4)
        assert loss["loss_mask_dice"].item() == pytest.approx(0.0, abs=1e-4)


def test_uniform_masks_by_hand():
    # Two slots at 1/2 everywhere; segments of 12 and 4 of 16 pixels.
    maps = torch.zeros(1, 4, 4, dtype=torch.int64)
    maps[0, 0] = 1
    step = make_step(decoded=[Decoded(torch.zeros(1, 2, 4, 4))], segment_maps=maps)
    dice = [1 - (2 * 0.5 * area + 1) / (8 + area + 1) for area in (12, 4)]
    for pixel_loss, expected in (("ce", math.log(2)), ("bce", math.log(2))):
        loss = make_mask_loss(pixel_loss)(step)
        assert loss["loss_mask_pixel"].item() == pytest.approx(expected, rel=1e-5)
        assert loss["loss_mask_dice"].item() == pytest.approx(sum(dice) / 2, rel=1e-5)


@pytest.mark.parametrize("pixel_loss", ["ce", "bce"])
def test_void_pixels_have_no_influence(pixel_loss):
    maps = MAPS.clone()
    maps[0, 0] = -1
    logits = logits_for(MAPS, [0, 1, 2], 3, sharpness=2.0)
    changed = logits.clone()
    changed[:, :, 0] = torch.randn(1, 3, 4) * 5
    losses = [
        make_mask_loss(pixel_loss)(make_step(decoded=[Decoded(x)], segment_maps=maps))
        for x in (logits, changed)
    ]
    for name in ("loss_mask_pixel", "loss_mask_dice"):
        assert losses[0][name].item() == pytest.approx(losses[1][name].item(), rel=1e-5)


@pytest.mark.parametrize("pixel_loss", ["ce", "bce"])
def test_gradients_are_finite_at_saturated_masks(pixel_loss):
    logits = (logits_for(MAPS, [2, 1, 0], 3, sharpness=300.0)).requires_grad_()
    loss = make_mask_loss(pixel_loss)(make_step(decoded=[Decoded(logits)], segment_maps=MAPS))
    sum(loss.values()).backward()
    assert torch.isfinite(logits.grad).all()


def test_an_image_of_background_only_and_one_of_void_only():
    maps = torch.stack([torch.zeros(4, 4), torch.full((4, 4), -1.0)]).long()
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = make_mask_loss()(make_step(decoded=[Decoded(logits)], segment_maps=maps))
    sum(loss.values()).backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0].abs().sum() > 0
    assert logits.grad[1].abs().sum() == 0


def test_more_segments_than_slots_match_as_far_as_slots_go_and_warn_once(caplog):
    decoded = [Decoded(logits_for(MAPS.clamp_max(1), [0, 1], 2, sharpness=40.0))]
    loss = make_mask_loss()
    with caplog.at_level(logging.WARNING):
        values = [loss(make_step(decoded=decoded, segment_maps=MAPS)) for _ in range(2)]
    # Segments 0 and 1 are matched perfectly, segment 2 is left out.
    assert values[0]["loss_mask_pixel"].item() == pytest.approx(0.0, abs=1e-4)
    messages = [r.getMessage() for r in caplog.records if "MODEL.SLOTS.NUM_SLOTS" in r.getMessage()]
    assert len(messages) == 1
    assert "image0.png has 3 segments" in messages[0]


def test_matcher_prefers_the_cheaper_total():
    # Slot 0 is the better one for both segments, but segment 1 has nobody else.
    truth = torch.tensor([[[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]])
    masks = torch.tensor([[[0.5, 0.5, 0.9, 0.9], [0.4, 0.4, 0.05, 0.05], [0.1, 0.1, 0.05, 0.05]]])
    slot_of = MaskMatcher(0.2, 1.0)(masks.log(), truth, ["a.png"])
    assert slot_of.tolist() == [[1, 0]]


def test_matcher_skips_absent_segments():
    truth = torch.zeros(1, 3, 4)
    truth[0, 0, :2] = 1
    truth[0, 2, 2:] = 1
    slot_of = MaskMatcher(0.2, 1.0)(torch.full((1, 2, 4), 0.5).log(), truth, ["a.png"])
    assert slot_of[0, 1] == -1
    assert sorted(slot_of[0, [0, 2]].tolist()) == [0, 1]


def test_matcher_names_the_files_with_nan():
    log_masks = torch.full((2, 2, 4), 0.5).log()
    log_masks[1, 0, 0] = float("nan")
    truth = torch.full((2, 2, 4), 0.5)
    with pytest.raises(NonFiniteLossError, match="not finite for b.png;"):
        MaskMatcher(0.2, 1.0)(log_masks, truth, ["a.png", "b.png"])


def test_masks_are_required():
    step = make_step(decoded=[Decoded(torch.zeros(1, 2, 4, 4))])
    with pytest.raises(DatasetError, match="image0.png: has no mask"):
        make_mask_loss()(step)


class Reconstructs(torch.nn.Module):
    makes_reconstruction = True


class MasksOnly(torch.nn.Module):
    makes_reconstruction = False


def test_the_config_switches_losses():
    decoders = torch.nn.ModuleList([Reconstructs()])
    assert set(build_losses(get_cfg(), decoders)) == {"reconstruction", "diversity"}
    cfg = get_cfg(overrides=["LOSSES.MASKS.WEIGHT", 1.0, "LOSSES.DIVERSITY.WEIGHT", 0.0])
    assert set(build_losses(cfg, decoders)) == {"reconstruction", "masks"}
    with pytest.raises(ConfigError, match="none of MODEL.DECODERS"):
        build_losses(get_cfg(), torch.nn.ModuleList([MasksOnly()]))
    with pytest.raises(ConfigError, match="nothing to learn from"):
        build_losses(get_cfg(overrides=["LOSSES.RECONSTRUCTION.WEIGHT", 0.0]), decoders)
    with pytest.raises(ConfigError, match="'focal' is unknown"):
        build_losses(
            get_cfg(overrides=["LOSSES.MASKS.WEIGHT", 1.0, "LOSSES.MASKS.PIXEL_LOSS", "focal"]),
            decoders,
        )


def test_attention_is_asked_with_a_matching_of_its_own():
    decoded = [Decoded(logits_for(MAPS, [0, 1, 2], 3, sharpness=40.0))]
    perfect = logits_for(MAPS, [2, 0, 1], 3, sharpness=40.0).softmax(dim=1)
    # Perfect under another order of slots costs nothing; uniform masks cost log 3 a pixel.
    for attention, expected in ((perfect, 0.0), (torch.full((1, 3, 2, 2), 1 / 3), math.log(3))):
        step = make_step(decoded=decoded, segment_maps=MAPS, attention=attention)
        loss = make_mask_loss(attention_weight=0.5)(step)
        assert loss["loss_mask_pixel"].item() == pytest.approx(0.0, abs=1e-4)
        assert loss["loss_attention_pixel"].item() == pytest.approx(0.5 * expected, abs=1e-4)
        assert "loss_attention_pixel" not in make_mask_loss()(step)
