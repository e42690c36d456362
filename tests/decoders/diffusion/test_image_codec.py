"""Autoencoders: images to latents of unit size, and where trained ones come from."""

import json

import diffusers
import pytest
import torch

from slotseg import get_cfg
from slotseg.decoders.diffusion import ImageCodec, build_codec, load_codec
from slotseg.errors import CheckpointError, ConfigError

TINY = {
    "kl": ["CHANNELS", [8, 16]],
    "vq": ["CHANNELS", [8, 16], "CODEBOOK", 32],
    "tiny": ["CHANNELS", [8, 8]],
    "kl-folded": ["KIND", "kl", "CHANNELS", [8, 16], "PATCH", 2],
}


def make_cfg(kind="kl", *options):
    values = ["KIND", kind.split("-")[0], "BLOCKS", 1, "NORM_GROUPS", 4, *TINY[kind], *options]
    keys = [f"MODEL.AUTOENCODER.{key}" for key in values[::2]]
    pairs = [part for pair in zip(keys, values[1::2], strict=True) for part in pair]
    return get_cfg(overrides=["MODEL.META_ARCHITECTURE", "LatentAutoencoder", *pairs])


def make_codec(kind="kl", *options):
    torch.manual_seed(0)
    return build_codec(make_cfg(kind, *options).MODEL.AUTOENCODER)


def make_images(count=4, size=(16, 24)):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("kind", list(TINY))
def test_there_and_back(kind):
    codec, images = make_codec(kind).eval(), make_images()
    with torch.no_grad():
        latents = codec.encode(images)
        made = codec.decode(latents)
        compressed = codec.train().compress(images)
    stride = 4 if kind == "kl-folded" else 2
    assert codec.stride == stride
    assert latents.shape == (4, codec.latent_channels, 16 // stride, 24 // stride)
    assert made.shape == compressed.reconstruction.shape == images.shape
    assert made.abs().max() <= 1.0
    assert (compressed.penalty is None) == (kind == "tiny")
    assert latents.dtype == made.dtype == torch.float32


@pytest.mark.parametrize("kind", list(TINY))
def test_measured_latents_have_unit_size(kind):
    codec, images = make_codec(kind), make_images(16)
    with torch.no_grad():
        for _ in range(3):
            codec.compress(images)
        latents = codec.eval().encode(images)
    deviation, mean = torch.std_mean(latents, dim=(0, 2, 3))
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-3, rtol=0)
    torch.testing.assert_close(deviation, torch.ones_like(deviation), atol=1e-3, rtol=0)
    assert int(codec.measured_batches) == 3


def test_a_single_latent_leaves_the_measure_as_it_is():
    codec = make_codec()
    codec.compress(make_images(1, (2, 2)))
    assert int(codec.measured_batches) == 0
    assert codec.latent_std.isfinite().all()


def test_latents_scaled_there_are_scaled_back():
    codec, images = make_codec().eval(), make_images()
    with torch.no_grad():
        plain = codec.decode(codec.encode(images))
        codec.latent_mean.fill_(0.7)
        codec.latent_std.fill_(0.01)
        torch.testing.assert_close(codec.decode(codec.encode(images)), plain)


def test_kl_divergence_is_that_of_torch():
    codec, images = make_codec(), make_images()
    with torch.no_grad():
        penalty = codec.compress(images).penalty
        posterior = codec.network.encode(images).latent_dist
    normal = torch.distributions.Normal(posterior.mean, posterior.std)
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(penalty, expected.mean())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["KIND", "vae"], "KIND: 'vae' is unknown"),
        (["CHANNELS", [6]], "6 is no multiple of NORM_GROUPS 4"),
        (["CHANNELS", []], "CHANNELS is empty"),
        (["PATCH", 0], "PATCH is 0"),
        (["BLOCKS", 0], "BLOCKS is 0"),
        (["NORM_GROUPS", 0], "NORM_GROUPS is 0"),
        (["LATENT_CHANNELS", 0], "LATENT_CHANNELS is 0"),
        (["KIND", "tiny", "CHANNELS", [8, 16]], "wants all of them equal"),
    ],
    ids=["kind", "groups", "empty", "patch", "blocks", "no groups", "latents", "tiny"],
)
def test_bad_descriptions(options, told):
    with pytest.raises(ConfigError, match=told):
        make_codec("kl", *options)


def test_other_networks_are_refused():
    with pytest.raises(ConfigError, match="not Linear"):
        ImageCodec(torch.nn.Linear(1, 1))


def saved(tmp_path, kind="kl", name="model_final.pth", **extra):
    """A checkpoint as the trainer writes it, and its codec."""
    codec = make_codec(kind)
    with torch.no_grad():
        codec.compress(make_images())
    weights = {f"codec.{key}": value for key, value in codec.state_dict().items()}
    path = tmp_path / name
    if name.endswith(".safetensors"):
        from safetensors.torch import save_file

        save_file(weights, path)
    else:
        torch.save({"model": weights, "config": make_cfg(kind).dump(), **extra}, path)
    return str(path), codec.eval()


def assert_alike(one, other):
    with torch.no_grad():
        latents = one.encode(make_images())
        assert torch.equal(other.eval().encode(make_images()), latents)
        assert torch.equal(other.decode(latents), one.decode(latents))


@pytest.mark.parametrize("kind", list(TINY))
def test_from_a_checkpoint(tmp_path, kind):
    path, codec = saved(tmp_path, kind)
    assert_alike(codec, load_codec(path))


def test_from_safetensors_with_the_config_beside(tmp_path):
    path, codec = saved(tmp_path, name="model.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: does not say which"):
        load_codec(path)
    (tmp_path / "config.yaml").write_text(make_cfg().dump())
    assert_alike(codec, load_codec(path))


@pytest.mark.parametrize("kind", ["kl", "vq", "tiny"])
@pytest.mark.parametrize("subfolder", ["", "vae"], ids=["model", "pipeline"])
def test_from_a_folder_of_diffusers(tmp_path, kind, subfolder):
    network = make_codec(kind).network
    network.register_to_config(scaling_factor=0.25)
    network.save_pretrained(tmp_path / subfolder)
    codec = load_codec(str(tmp_path))
    assert type(codec.network) is type(network)
    with torch.no_grad():
        raw = network.eval().encode(make_images())
        raw = raw.latent_dist.mean if kind == "kl" else raw.latents
        torch.testing.assert_close(codec.eval().encode(make_images()), 0.25 * raw)


def test_a_folder_that_lacks_weights_is_refused(tmp_path):
    make_codec().network.save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    from safetensors.torch import load_file, save_file

    weights = load_file(file)
    weights.pop("quant_conv.weight")
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks 1 weights \(first: quant_conv.weight\)"):
        load_codec(str(tmp_path))


def test_a_folder_for_grey_images_is_refused(tmp_path):
    diffusers.AutoencoderTiny(
        in_channels=1,
        out_channels=1,
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="of 1 channels is not one of RGB"):
        load_codec(str(tmp_path))


def test_damaged_and_foreign_folders_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"no config\.json in this folder"):
        load_codec(str(tmp_path))
    config = tmp_path / "config.json"
    config.write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json names no model"):
        load_codec(str(tmp_path))
    config.write_text(json.dumps({"_class_name": "UNet2DModel"}))
    with pytest.raises(CheckpointError, match="holds a UNet2DModel, expected one of"):
        load_codec(str(tmp_path))
    config.write_text(json.dumps({"_class_name": "AutoencoderKL"}))
    with pytest.raises(CheckpointError, match="cannot be read as AutoencoderKL"):
        load_codec(str(tmp_path))


def test_no_autoencoder_says_how_to_get_one():
    with pytest.raises(ConfigError, match=r"configs/clevr/pretrain/autoencoder\.yaml"):
        load_codec("")


def test_bad_checkpoints(tmp_path):
    with pytest.raises(CheckpointError, match=r"MODEL\.DIFFUSION\.AUTOENCODER: .*no such"):
        load_codec(str(tmp_path / "nowhere.pth"))
    path = str(tmp_path / "slots.pth")
    torch.save({"model": {}, "config": get_cfg().dump()}, path)
    with pytest.raises(CheckpointError, match="a checkpoint of SlotSeg"):
        load_codec(path)
    torch.save({"model": {}, "config": "a: 1"}, path)
    with pytest.raises(CheckpointError, match="describes no autoencoder"):
        load_codec(path)
    torch.save({"model": {}, "config": make_cfg().dump()}, path)
    with pytest.raises(CheckpointError, match=r"weights are missing or of another shape"):
        load_codec(path)


def test_shipped_classes_of_diffusers_are_those_that_are_built():
    for kind, name in (("kl", "AutoencoderKL"), ("vq", "VQModel"), ("tiny", "AutoencoderTiny")):
        assert type(make_codec(kind).network) is getattr(diffusers, name)
