"""Slots to features of a frozen map."""

import logging

import pytest
import torch
from detectron2.layers import ShapeSpec

from slotseg import get_cfg
from slotseg.decoders import FeatureMLPDecoder
from slotseg.errors import ConfigError
from slotseg.slots import SlotState

SHAPES = {"s16": ShapeSpec(channels=5, stride=16)}
IMAGES = torch.zeros(0)


def make_decoder(**options):
    torch.manual_seed(0)
    defaults = {
        "slot_dim": 8,
        "target": "s16",
        "target_channels": 5,
        "hidden": 12,
        "layers": 3,
        "position": "fourier",
    }
    return FeatureMLPDecoder(**{**defaults, **options})


def make_state(num_slots=4):
    torch.manual_seed(1)
    return SlotState(torch.randn(2, num_slots, 8, requires_grad=True), torch.zeros(0))


def make_maps():
    torch.manual_seed(2)
    return {"s16": torch.randn(2, 5, 3, 4)}


def by_hand(decoder, slots, size):
    """The published order: an MLP of slot and position for every slot and pixel, then mixing."""
    features, logits = [], []
    for k in range(slots.shape[1]):
        embedded = decoder.slot_embedding(slots[:, k])[:, :, None, None].repeat(1, 1, *size)
        hidden = decoder.hidden(decoder.position(embedded))
        features.append(decoder.features(hidden))
        logits.append(decoder.mask_logit(hidden)[:, 0])
    logits = torch.stack(logits, 1)
    mixed = (logits.softmax(1).unsqueeze(2) * torch.stack(features, 1)).sum(1)
    return logits, mixed


def test_it_is_dinosaurs_decoder_with_slots_mixed_before_the_last_layer():
    decoder, state, maps = make_decoder(), make_state(), make_maps()
    decoded = decoder(state, maps, IMAGES)
    logits, features = by_hand(decoder, state.slots, (3, 4))
    torch.testing.assert_close(decoded.mask_logits, logits)
    torch.testing.assert_close(decoded.features.prediction, features)
    assert torch.equal(decoded.features.target, maps["s16"])


def test_inference_gives_the_same_masks_and_no_features():
    decoder, state, maps = make_decoder(), make_state(), make_maps()
    masks = decoder(state, maps, IMAGES).mask_logits
    decoded = decoder.eval()(state, maps, IMAGES)
    assert torch.equal(decoded.mask_logits, masks)
    assert decoded.features is None


def test_masks_follow_the_order_of_the_slots():
    decoder, state, maps = make_decoder(), make_state(), make_maps()
    order = torch.tensor([2, 0, 3, 1])
    decoded = decoder(state, maps, IMAGES)
    permuted = decoder(SlotState(state.slots[:, order], state.attention), maps, IMAGES)
    torch.testing.assert_close(permuted.mask_logits, decoded.mask_logits[:, order])
    torch.testing.assert_close(permuted.features.prediction, decoded.features.prediction)


def test_learning_explains_the_map():
    decoder, state, maps = make_decoder(hidden=48), make_state(), make_maps()
    optimizer = torch.optim.Adam([state.slots, *decoder.parameters()], 0.01)
    errors = []
    for _ in range(150):
        guess = decoder(state, maps, IMAGES).features
        error = (guess.prediction - guess.target).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    assert errors[-1] < 0.05 * errors[0]
    assert all(p.grad is not None for p in decoder.parameters())


def test_a_map_that_is_trained_gets_no_gradient_and_a_warning(caplog):
    decoder, state = make_decoder(), make_state()
    maps = {"s16": make_maps()["s16"].requires_grad_()}
    with caplog.at_level(logging.WARNING, "slotseg.decoders.feature_mlp"):
        guess = decoder(state, maps, IMAGES).features
    (guess.prediction - guess.target).square().mean().backward()
    assert maps["s16"].grad is None
    assert "is trained itself" in caplog.text


def test_float32_under_autocast():
    decoder, state, maps = make_decoder(), make_state(), make_maps()
    with torch.autocast("cpu", torch.bfloat16):
        decoded = decoder(state, maps, IMAGES)
    assert decoded.mask_logits.dtype == decoded.features.prediction.dtype == torch.float32


def test_from_config():
    cfg = get_cfg(overrides=["MODEL.FEATURE_MLP.HIDDEN", 16])
    decoder = FeatureMLPDecoder(cfg, SHAPES)
    assert decoder.features.out_channels == 5
    assert sum(isinstance(m, torch.nn.ReLU) for m in decoder.hidden) == 3


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["MODEL.FEATURE_MLP.TARGET", "s3"], "TARGET: the backbone has no output 's3'"),
        (["MODEL.FEATURE_MLP.LAYERS", 0], "LAYERS is 0"),
        (["MODEL.FEATURE_MLP.POSITION", "none"], "POSITION: slots must tell places apart"),
    ],
    ids=["target", "layers", "position"],
)
def test_bad_options(overrides, told):
    with pytest.raises(ConfigError, match=told):
        FeatureMLPDecoder(get_cfg(overrides=overrides), SHAPES)
