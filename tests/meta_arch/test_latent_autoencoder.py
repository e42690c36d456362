"""The autoencoder as a model that is trained like any other, and what is built on it."""

import math

import pytest
import torch
from detectron2.modeling import build_model

from slotseg import get_cfg
from slotseg.decoders import drawing
from slotseg.errors import ConfigError, DatasetError

SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.META_ARCHITECTURE": "LatentAutoencoder",
    "MODEL.AUTOENCODER.PATCH": 2,
    "MODEL.AUTOENCODER.CHANNELS": [8, 16],
    "MODEL.AUTOENCODER.BLOCKS": 1,
    "MODEL.AUTOENCODER.NORM_GROUPS": 4,
}
# A slot model around it.
SLOTS = {
    "MODEL.DEVICE": "cpu",
    "INPUT.IMAGE_SIZE": (16, 24),
    "MODEL.BACKBONE.NAME": "build_lean_unet_backbone",
    "MODEL.UNET.CHANNELS": [8, 8],
    "MODEL.UNET.BLOCKS": [1, 1],
    "MODEL.SLOTS.NUM_SLOTS": 3,
    "MODEL.SLOTS.DIM": 16,
    "MODEL.SLOTS.IN_FEATURE": "s4",
    "MODEL.SLOTS.GROUPING.MLP_DIM": 16,
    "MODEL.DECODERS": ["MaskProductDecoder", "FeatureMLPDecoder", "LatentDiffusionDecoder"],
    "MODEL.FEATURE_MLP.TARGET": "s4",
    "MODEL.FEATURE_MLP.HIDDEN": 16,
    "MODEL.DIFFUSION.CHANNELS": [32, 32],
    "MODEL.DIFFUSION.ATTENTION": [False, True],
    "MODEL.DIFFUSION.BLOCKS": 1,
    "MODEL.DIFFUSION.NORM_GROUPS": 8,
    "MODEL.DIFFUSION.SAMPLER_STEPS": 2,
    "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
    "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
    "LOSSES.RECONSTRUCTION.WEIGHT": 0.0,
    "LOSSES.FEATURES.WEIGHT": 0.5,
    "LOSSES.DIFFUSION.WEIGHT": 1.0,
}


def make_cfg(base, **options):
    values = {**base, **{key.replace("__", "."): value for key, value in options.items()}}
    return get_cfg(overrides=[part for pair in values.items() for part in pair])


def make_batch(count=4, size=(16, 24)):
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 2, 3, generator=generator) * 255
    images = torch.nn.functional.interpolate(coarse, size, mode="bilinear").byte()
    return [{"image": image, "file_name": f"{i}.png"} for i, image in enumerate(images)]


def train(model, batch, steps):
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 0.01)
    history = []
    for _ in range(steps):
        losses = model.train()(batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append({name: float(loss.detach()) for name, loss in losses.items()})
    return history


@pytest.mark.parametrize(
    ("kind", "penalised"), [("kl", True), ("vq", True), ("tiny", False)], ids=["kl", "vq", "tiny"]
)
def test_it_learns_to_draw_its_images(kind, penalised):
    torch.manual_seed(0)
    options = {"MODEL.AUTOENCODER.CHANNELS": [16, 16]} if kind == "tiny" else {}
    model = build_model(make_cfg(SMALL, MODEL__AUTOENCODER__KIND=kind, **options))
    batch = make_batch()
    history = train(model, batch, 40)
    assert ("loss_latents" in history[0]) == penalised
    assert history[-1]["loss_reconstruction"] < 0.6 * history[0]["loss_reconstruction"]
    with torch.no_grad():
        outputs = model.eval()(batch)
    assert [o["reconstruction"].shape for o in outputs] == [(3, 16, 24)] * 4
    assert outputs[0]["latents"].shape == (4, 4, 6)
    errors = [(o["reconstruction"] - x["image"]) / 255 for o, x in zip(outputs, batch, strict=True)]
    told = -10 * math.log10(torch.stack(errors).square().mean())
    # Images of one grey have 12 dB.
    assert told > 12


def test_the_channel_order_does_not_matter_for_what_is_learnt():
    torch.manual_seed(0)
    rgb = build_model(make_cfg(SMALL))
    bgr = build_model(make_cfg(SMALL, INPUT__FORMAT="BGR"))
    bgr.load_state_dict(rgb.state_dict())
    batch = make_batch()
    flipped = [{**x, "image": x["image"].flip(0)} for x in batch]
    with torch.no_grad():
        one, other = rgb.eval()(batch)[0], bgr.eval()(flipped)[0]
    assert torch.equal(one["latents"], other["latents"])
    assert torch.equal(one["reconstruction"], other["reconstruction"].flip(0))


def test_odd_sizes_come_back_as_they_were():
    model = build_model(make_cfg(SMALL)).eval()
    with torch.no_grad():
        output = model(make_batch(1, (17, 22)))[0]
    assert output["reconstruction"].shape == (3, 17, 22)
    assert output["latents"].shape == (4, 5, 6)
    assert output["reconstruction"].min() >= 0 and output["reconstruction"].max() <= 255


def test_bad_input():
    model = build_model(make_cfg(SMALL))
    with pytest.raises(DatasetError, match=r"1\.png: size \(3, 8, 8\) differs"):
        model([make_batch()[0], {**make_batch()[1], "image": torch.zeros(3, 8, 8).byte()}])
    with pytest.raises(ConfigError, match=r"INPUT\.FORMAT 'L'"):
        build_model(make_cfg(SMALL, INPUT__FORMAT="L"))


@pytest.fixture
def autoencoder(tmp_path):
    """A checkpoint of a few steps, as the trainer writes it."""
    torch.manual_seed(0)
    cfg = make_cfg(SMALL)
    model = build_model(cfg)
    train(model, make_batch(), 3)
    path = str(tmp_path / "model_final.pth")
    torch.save({"model": model.state_dict(), "config": cfg.dump()}, path)
    return path, model.eval()


def test_three_decoders_learn_together_on_a_frozen_autoencoder(autoencoder):
    path, trained = autoencoder
    torch.manual_seed(0)
    model = build_model(make_cfg(SLOTS, MODEL__DIFFUSION__AUTOENCODER=path))
    batch = make_batch()
    history = train(model, batch, 2)
    assert list(history[0]) == ["loss_features", "loss_diffusion", "loss_diversity"]
    assert all(math.isfinite(value) for losses in history for value in losses.values())
    frozen = model.decoders[2].codec.state_dict()
    for name, value in trained.codec.state_dict().items():
        assert torch.equal(frozen[name], value), name
    # ImageNet's statistics here, [-1, 1] there: the latents must be the same.
    images = model.preprocess(batch)
    with torch.no_grad():
        latents = model.decoders[2].codec.encode(model.decoders[2].colors.to_rgb(images))
        expected = torch.stack([o["latents"] for o in trained(batch)])
    torch.testing.assert_close(latents, expected, atol=1e-4, rtol=1e-4)


def test_a_slot_model_draws_only_on_request(autoencoder):
    torch.manual_seed(0)
    model = build_model(make_cfg(SLOTS, MODEL__DIFFUSION__AUTOENCODER=autoencoder[0])).eval()
    with torch.no_grad():
        plain = model(make_batch())[0]
        with drawing(model):
            drawn = model(make_batch())[0]
    assert "reconstruction" not in plain
    assert plain["slot_masks"].shape[0] == 3
    assert drawn["reconstruction"].shape == (3, 16, 24)
    assert drawn["reconstruction"].min() >= 0 and drawn["reconstruction"].max() <= 255


def test_a_sample_that_was_asked_for_is_shown_in_place_of_the_mask_decoders_picture(autoencoder):
    torch.manual_seed(0)
    options = {
        "MODEL.DIFFUSION.AUTOENCODER": autoencoder[0],
        "MODEL.DECODERS": ["SpatialBroadcastDecoder", "LatentDiffusionDecoder"],
        "LOSSES.RECONSTRUCTION.WEIGHT": 1.0,
        "LOSSES.FEATURES.WEIGHT": 0.0,
    }
    model = build_model(make_cfg({**SLOTS, **options})).eval()
    with torch.no_grad():
        plain = model(make_batch(1))[0]["reconstruction"]
        with drawing(model):
            drawn = model(make_batch(1))[0]["reconstruction"]
    assert drawn.shape == plain.shape == (3, 16, 24)
    assert not torch.allclose(drawn, plain, atol=1.0)
