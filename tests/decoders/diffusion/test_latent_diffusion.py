"""The decoder by latent diffusion: what it learns, and what it draws."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from slotseg import get_cfg
from slotseg.decoders import LatentDiffusionDecoder, drawing
from slotseg.decoders.diffusion import build_codec
from slotseg.decoders.diffusion.colors import ColorSpace
from slotseg.decoders.diffusion.noise import NoiseProcess
from slotseg.decoders.diffusion.unet import build_unet
from slotseg.errors import ConfigError
from slotseg.slots import SlotState

IMAGENET = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])


class Folding(nn.Module):
    """A codec without loss: blocks of 2x2 pixels are the latents."""

    stride = 2
    latent_channels = 12

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def encode(self, images):
        return self.scale * F.pixel_unshuffle(images, 2)

    def decode(self, latents):
        return F.pixel_shuffle(latents / self.scale, 2).clamp(-1, 1)


def make_noise(**options):
    defaults = {
        "timesteps": 1000,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.0015,
        "beta_end": 0.0195,
        "prediction": "epsilon",
        "sampler": "ddim",
        "sampler_steps": 4,
    }
    return NoiseProcess(**{**defaults, **options})


def make_unet(**options):
    defaults = {
        "latent_channels": 12,
        "condition_dim": 16,
        "channels": [64],
        "blocks": 1,
        "attention": [True],
        "head_dim": 32,
        "norm_groups": 8,
    }
    return build_unet(**{**defaults, **options})


def make_decoder(*, noise=None, colors=None, image_size=None, **unet):
    torch.manual_seed(0)
    return LatentDiffusionDecoder(
        slot_dim=16,
        codec=Folding(),
        unet=make_unet(**unet),
        noise=noise or make_noise(),
        colors=colors or ColorSpace([127.5] * 3, [127.5] * 3, "RGB"),
        image_size=image_size,
    )


def make_state(batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return SlotState(torch.randn(batch, 3, 16, generator=generator), torch.zeros(0))


def make_images(size=8):
    """Two pictures that differ everywhere, in [-1, 1]."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    disc = 1.6 * (x.square() + y.square() < 0.4) - 0.8
    return 0.9 * torch.stack([torch.stack([x, y, -x]), torch.stack([disc, -y, x * y])])


def psnr(made, images):
    """Decibel of every image, whose values span 2."""
    return -10.0 * ((made - images) / 2).square().mean((1, 2, 3)).log10()


def fit(decoder, state, images, steps, rate=3e-3, seed=None):
    """Noise losses of a training; with a seed every step sees the same noise."""
    parameters = [p for p in decoder.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, rate)
    losses = []
    for step in range(steps):
        if seed is not None:
            torch.manual_seed(seed)
        for group in optimizer.param_groups:
            group["lr"] = 0.5 * rate * (1 + math.cos(math.pi * step / steps))
        noise = decoder(state, {}, images).noise
        loss = F.mse_loss(noise.prediction, noise.target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def test_the_noise_loss_of_a_fixed_batch_falls():
    losses = fit(make_decoder(), make_state(), make_images(), 40, seed=3)
    assert losses[0] > 0.8
    assert losses[-1] < 0.2 * losses[0]


def test_ddim_reproduces_two_pictures_from_their_slots():
    """As far as a few seconds of training go: 250 steps on 32 copies reach 24 dB."""
    decoder = make_decoder(noise=make_noise(prediction="v_prediction", sampler_steps=10))
    state, images = make_state(), make_images()
    many = SlotState(state.slots.repeat(12, 1, 1), state.attention)
    fit(decoder, many, images.repeat(12, 1, 1, 1), 120)
    torch.manual_seed(1)
    with torch.no_grad(), drawing(decoder.eval()):
        made = decoder(state, {}, images).reconstruction
        # Only the slots say what is to be drawn.
        swapped = decoder(SlotState(state.slots.flip(0), state.attention), {}, images)
    assert psnr(made, images).min() > 13.0
    assert psnr(swapped.reconstruction, images.flip(0)).min() > 13.0
    assert psnr(made, images.flip(0)).max() < 10.0


def test_the_codec_stays_as_it_is():
    decoder = make_decoder()
    assert decoder.train().training
    assert not decoder.codec.training
    assert not any(p.requires_grad for p in decoder.codec.parameters())
    fit(decoder, make_state(), make_images(), 2)
    assert float(decoder.codec.scale) == 2.0
    assert decoder.codec.scale.grad is None


def test_slots_learn_from_the_noise():
    decoder, state = make_decoder(), make_state()
    slots = state.slots.requires_grad_()
    noise = decoder(SlotState(slots, state.attention), {}, make_images()).noise
    F.mse_loss(noise.prediction, noise.target).backward()
    assert (slots.grad.abs().sum(-1) > 0).all()
    assert all(p.grad is not None for p in decoder.unet.parameters())


def test_the_order_of_the_slots_does_not_matter():
    decoder, state, images = make_decoder(), make_state(), make_images()
    predictions = []
    for order in ([0, 1, 2], [2, 0, 1]):
        torch.manual_seed(5)
        slots = SlotState(state.slots[:, order], state.attention)
        predictions.append(decoder(slots, {}, images).noise.prediction)
    torch.testing.assert_close(*predictions, atol=1e-5, rtol=1e-4)


def test_nothing_is_drawn_unless_asked():
    decoder = make_decoder().eval()
    with torch.no_grad():
        decoded = decoder(make_state(), {}, make_images())
        assert decoded.reconstruction is decoded.noise is decoded.mask_logits is None
        with pytest.raises(ZeroDivisionError), drawing(nn.Sequential(decoder)):
            assert decoder(make_state(), {}, make_images()).reconstruction.shape == (2, 3, 8, 8)
            raise ZeroDivisionError
        assert decoder(make_state(), {}, make_images()).reconstruction is None
    # The steps of a drawing would each be kept for a gradient that nobody asks for.
    with drawing(decoder):
        assert not decoder(make_state(), {}, make_images()).reconstruction.requires_grad


@pytest.mark.parametrize("sampler", ["ddim", "dpm-solver"])
def test_drawing_follows_the_global_seed(sampler):
    decoder = make_decoder(noise=make_noise(sampler=sampler)).eval()
    made = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        with torch.no_grad(), drawing(decoder):
            made.append(decoder(make_state(), {}, make_images()).reconstruction)
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


@pytest.mark.parametrize("sampler", ["ddim", "dpm-solver"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_perfect_prediction_leads_back_to_the_latents(sampler, prediction):
    """With the true noise at hand every sampler has to arrive, whatever it started from."""
    noise = make_noise(sampler=sampler, prediction=prediction, sampler_steps=20)
    torch.manual_seed(0)
    latents = torch.randn(2, 3, 4, 4)
    alphas = torch.cumprod(1 - torch.linspace(0.0015**0.5, 0.0195**0.5, 1000).square(), 0)

    def predict(noisy, times):
        alpha = alphas[times].view(-1, 1, 1, 1)
        true = (noisy - alpha.sqrt() * latents) / (1 - alpha).sqrt()
        if prediction == "epsilon":
            return true
        return alpha.sqrt() * true - (1 - alpha).sqrt() * latents

    made = noise.sample(torch.randn_like(latents), predict)
    torch.testing.assert_close(made, latents, atol=0.05, rtol=0)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noisy_latents_are_those_of_the_schedule(prediction):
    torch.manual_seed(0)
    latents = torch.randn(64, 2, 4, 4)
    noisy, times, target = make_noise(prediction=prediction).add_noise(latents)
    alphas = torch.cumprod(1 - torch.linspace(0.0015**0.5, 0.0195**0.5, 1000).square(), 0)
    alpha = alphas[times].view(-1, 1, 1, 1)
    assert 0 <= times.min() < 100 and 900 < times.max() < 1000
    if prediction == "v_prediction":
        target = (target + (1 - alpha).sqrt() * latents) / alpha.sqrt()
    expected = alpha.sqrt() * latents + (1 - alpha).sqrt() * target
    torch.testing.assert_close(noisy, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_colours_of_the_model_become_those_of_the_autoencoder(image_format):
    colors = ColorSpace(*IMAGENET, image_format)
    pixels = torch.tensor([255.0, 127.5, 0.0]).view(1, 3, 1, 1)
    normalised = (pixels - colors.mean) / colors.std
    rgb = colors.to_rgb(normalised)
    expected = [1.0, 0.0, -1.0] if image_format == "RGB" else [-1.0, 0.0, 1.0]
    torch.testing.assert_close(rgb.flatten(), torch.tensor(expected), atol=1e-6, rtol=0)
    torch.testing.assert_close(colors.from_rgb(rgb), normalised)


def test_odd_sizes_are_rounded_up_and_a_fixed_size_is_kept():
    images = torch.zeros(2, 3, 7, 11)
    for size, expected in ((None, (8, 12)), ((4, 6), (4, 6))):
        decoder = make_decoder(image_size=size)
        assert decoder(make_state(), {}, images).noise.target.shape == (
            2, 12, expected[0] // 2, expected[1] // 2,
        )  # fmt: skip
        with torch.no_grad(), drawing(decoder.eval()):
            assert decoder(make_state(), {}, images).reconstruction.shape == (2, 3, *expected)


def test_float32_under_autocast():
    decoder = make_decoder()
    with torch.autocast("cpu", torch.bfloat16):
        noise = decoder(make_state(), {}, make_images()).noise
    assert noise.prediction.dtype == noise.target.dtype == torch.float32


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: make_decoder(image_size=(8, 9)), "height and width must be multiples of 2"),
        (lambda: make_decoder(image_size=(8,)), "height and width must be multiples of 2"),
        (lambda: make_decoder(image_size=(8, 0)), "height and width must be multiples of 2"),
        (lambda: make_unet(attention=[True, False]), "1 CHANNELS but 2 ATTENTION"),
        (lambda: make_unet(channels=[48]), "48 is no multiple of HEAD_DIM 32"),
        (lambda: make_unet(norm_groups=48), "64 is no multiple of NORM_GROUPS 48"),
        (lambda: make_unet(norm_groups=0), "NORM_GROUPS is 0"),
        (lambda: make_unet(head_dim=0), "HEAD_DIM is 0"),
        (lambda: make_unet(blocks=0), "BLOCKS is 0"),
        (lambda: make_noise(sampler="euler"), "SAMPLER: 'euler' is unknown"),
        (lambda: make_noise(prediction="sample"), "PREDICTION: 'sample' is unknown"),
        (lambda: make_noise(beta_schedule="cosine"), "BETA_SCHEDULE: 'cosine' is unknown"),
        (lambda: make_noise(beta_start=0.5), "must rise"),
        (lambda: make_noise(sampler_steps=1001), "SAMPLER_STEPS 1001 must lie"),
        (lambda: ColorSpace([0.0], [1.0], "L"), "INPUT.FORMAT 'L'"),
    ],
    ids=[
        "size",
        "one side",
        "no width",
        "levels",
        "heads",
        "groups",
        "no groups",
        "no head",
        "no blocks",
        "sampler",
        "prediction",
        "schedule",
        "betas",
        "steps",
        "grey",
    ],
)
def test_bad_options(build, told):
    with pytest.raises(ConfigError, match=told):
        build()


def test_from_config(tmp_path):
    autoencoder = ["KIND", "tiny", "CHANNELS", [8, 8], "BLOCKS", 1, "LATENT_CHANNELS", 2]
    keys = [f"MODEL.AUTOENCODER.{key}" for key in autoencoder[::2]]
    pairs = [part for pair in zip(keys, autoencoder[1::2], strict=True) for part in pair]
    trained = get_cfg(overrides=["MODEL.META_ARCHITECTURE", "LatentAutoencoder", *pairs])
    codec = build_codec(trained.MODEL.AUTOENCODER)
    weights = {f"codec.{key}": value for key, value in codec.state_dict().items()}
    path = str(tmp_path / "model_final.pth")
    torch.save({"model": weights, "config": trained.dump()}, path)
    small = ["CHANNELS", [32, 32], "ATTENTION", [False, True], "NORM_GROUPS", 8, "BLOCKS", 1]
    keys = [f"MODEL.DIFFUSION.{key}" for key in small[::2]]
    pairs = [part for pair in zip(keys, small[1::2], strict=True) for part in pair]
    cfg = get_cfg(overrides=["MODEL.DIFFUSION.AUTOENCODER", path, "MODEL.SLOTS.DIM", 16, *pairs])
    decoder = LatentDiffusionDecoder(cfg, {})
    assert decoder.codec.stride == 2
    assert decoder(make_state(), {}, torch.zeros(2, 3, 8, 8)).noise.target.shape == (2, 2, 4, 4)
