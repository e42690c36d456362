"""Images to latents and back: the autoencoders of diffusers behind one interface."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slotseg.errors import ConfigError

# MODEL.AUTOENCODER.KIND to the class of diffusers.
NETWORKS = {"kl": "AutoencoderKL", "vq": "VQModel", "tiny": "AutoencoderTiny"}

# Batches over which the statistics of the latents are averaged.
_MEMORY = 100


@dataclass(frozen=True)
class Compressed:
    """What a training step of the autoencoder gives.

    Attributes:
        reconstruction: ``[B, 3, H, W]``, RGB, about [-1, 1].
        penalty: scalar on the latents; None for a kind without one. "kl": the KL divergence from a
            standard normal distribution, in nats, mean over the values of the latents. "vq": the
            codebook loss (van den Oord et al. 2017, equation 3).
    """

    reconstruction: Tensor
    penalty: Tensor | None


class ImageCodec(nn.Module):
    """An autoencoder of diffusers, with latents of mean 0 and deviation 1 in every channel.

    A diffusion model takes its data to be of unit size; what makes them so is measured while the
    autoencoder is trained (a running mean over some hundred batches) and part of its state. This
    replaces the ``scaling_factor`` of diffusers, which is read from foreign models.

    Args:
        network: an AutoencoderKL, VQModel or AutoencoderTiny. One with ``3 * p^2`` channels of
            input gets images folded into blocks of p x p pixels.

    Raises:
        ConfigError: a network of another class, or for images of other channels.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        kinds = {name: kind for kind, name in NETWORKS.items()}
        name = type(network).__name__
        if name not in kinds:
            raise ConfigError(f"an autoencoder must be one of {', '.join(kinds)}, not {name}")
        self.kind = kinds[name]
        self.network = network
        config = network.config
        widths = (
            config.encoder_block_out_channels if self.kind == "tiny" else config.block_out_channels
        )
        # Blocks of this many pixels to either side are the network's channels ...
        self.patch = math.isqrt(config.in_channels // 3)
        if self.patch < 1 or config.in_channels != 3 * self.patch**2:
            raise ConfigError(f"an autoencoder of {config.in_channels} channels is not one of RGB")
        # ... and this many pixels of the image are a latent.
        self.stride = self.patch * 2 ** (len(widths) - 1)
        embedded = config.vq_embed_dim if self.kind == "vq" else None
        self.latent_channels = embedded or config.latent_channels
        mean, std = _scaling(config, self.latent_channels)
        self.register_buffer("latent_mean", mean.view(-1, 1, 1))
        self.register_buffer("latent_std", std.view(-1, 1, 1))
        self.register_buffer("measured_batches", torch.zeros((), dtype=torch.int64))

    def encode(self, images: Tensor) -> Tensor:
        """RGB ``[B, 3, H, W]`` in [-1, 1] to latents ``[B, C, H / stride, W / stride]``, float32.

        Deterministic: of a KL autoencoder the mean. H and W must be multiples of ``stride``.
        """
        with _exact_enough(images):
            return (self._raw_latents(images).float() - self.latent_mean) / self.latent_std

    def decode(self, latents: Tensor) -> Tensor:
        """The counterpart of :meth:`encode`: RGB in [-1, 1], float32."""
        with _exact_enough(latents):
            raw = latents * self.latent_std + self.latent_mean
            return self._unfold(self.network.decode(raw).sample).float().clamp(-1.0, 1.0)

    def compress(self, images: Tensor) -> Compressed:
        """One training step: there and back again, with what the latents cost.

        Measures the latents on the way.
        """
        if self.kind == "kl":
            posterior = self.network.encode(self._fold(images)).latent_dist
            self._measure(posterior.mean)
            made = self._unfold(self.network.decode(posterior.sample()).sample)
            mean, log_variance = posterior.mean.float(), posterior.logvar.float()
            divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)
            return Compressed(made, divergence.mean())
        latents = self._raw_latents(images)
        self._measure(latents)
        decoded = self.network.decode(latents)
        penalty = decoded.commit_loss if self.kind == "vq" else None
        return Compressed(self._unfold(decoded.sample), penalty)

    def _raw_latents(self, images: Tensor) -> Tensor:
        encoded = self.network.encode(self._fold(images))
        return encoded.latent_dist.mode() if self.kind == "kl" else encoded.latents

    def _fold(self, images: Tensor) -> Tensor:
        return F.pixel_unshuffle(images, self.patch) if self.patch > 1 else images

    def _unfold(self, pixels: Tensor) -> Tensor:
        return F.pixel_shuffle(pixels, self.patch) if self.patch > 1 else pixels

    @torch.no_grad()
    def _measure(self, latents: Tensor) -> None:
        """Running mean and deviation; the first batches count equally, later ones fade."""
        if latents[:, 0].numel() < 2:
            return  # a single value has no deviation
        deviation, mean = torch.std_mean(latents.float(), dim=(0, 2, 3))
        self.measured_batches += 1
        share = torch.clamp(1.0 / self.measured_batches, min=1.0 / _MEMORY)
        self.latent_mean.lerp_(mean.view(-1, 1, 1), share)
        # A channel that the network does not use must not be blown up.
        self.latent_std.lerp_(deviation.clamp_min(1e-3).view(-1, 1, 1), share)


def build_codec(node: Mapping[str, Any]) -> ImageCodec:
    """A new autoencoder as ``MODEL.AUTOENCODER`` describes it.

    Raises:
        ConfigError: an unknown kind, or numbers that do not fit together.
    """
    import diffusers

    kind, channels = node["KIND"], tuple(node["CHANNELS"])
    if kind not in NETWORKS:
        raise ConfigError(
            f"MODEL.AUTOENCODER.KIND: {kind!r} is unknown; choose from {', '.join(NETWORKS)}"
        )
    if not channels:
        raise ConfigError("MODEL.AUTOENCODER.CHANNELS is empty; give the channels of every stride")
    for key in ("PATCH", "BLOCKS", "LATENT_CHANNELS", "NORM_GROUPS", "CODEBOOK"):
        if node[key] < 1:
            raise ConfigError(f"MODEL.AUTOENCODER.{key} is {node[key]}, it must be at least 1")
    patch = node["PATCH"]
    ends = {"in_channels": 3 * patch**2, "out_channels": 3 * patch**2}
    if kind == "tiny":
        return ImageCodec(diffusers.AutoencoderTiny(**ends, **_tiny_options(node, channels)))
    groups = node["NORM_GROUPS"]
    odd = [width for width in channels if width % groups]
    if odd:
        raise ConfigError(
            f"MODEL.AUTOENCODER.CHANNELS: {odd[0]} is no multiple of NORM_GROUPS {groups}"
        )
    options = {
        **ends,
        "down_block_types": ("DownEncoderBlock2D",) * len(channels),
        "up_block_types": ("UpDecoderBlock2D",) * len(channels),
        "block_out_channels": channels,
        "layers_per_block": node["BLOCKS"],
        "latent_channels": node["LATENT_CHANNELS"],
        "norm_num_groups": groups,
        "mid_block_add_attention": node["ATTENTION"],
        # Latents are scaled by what is measured.
        "scaling_factor": 1.0,
    }
    if kind == "kl":
        return ImageCodec(diffusers.AutoencoderKL(**options))
    return ImageCodec(diffusers.VQModel(**options, num_vq_embeddings=node["CODEBOOK"]))


def _tiny_options(node: Mapping[str, Any], channels: tuple[int, ...]) -> dict[str, Any]:
    if len(set(channels)) != 1:
        raise ConfigError(
            f"MODEL.AUTOENCODER.CHANNELS {list(channels)}: the kind tiny wants all of them equal"
        )
    # As published (TAESD): one block at the full size, where they are dear.
    blocks = (1, *(node["BLOCKS"],) * (len(channels) - 1))
    return {
        "encoder_block_out_channels": channels,
        "decoder_block_out_channels": channels,
        "num_encoder_blocks": blocks,
        "num_decoder_blocks": blocks[::-1],
        "latent_channels": node["LATENT_CHANNELS"],
    }


def _scaling(config: Mapping[str, Any], channels: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the latents, as a model of diffusers describes them."""
    if config.get("latents_mean") and config.get("latents_std"):
        mean, std = torch.tensor(config["latents_mean"]), torch.tensor(config["latents_std"])
        return mean.float(), std.float()
    shift = config.get("shift_factor") or 0.0
    return torch.full((channels,), shift), torch.full((channels,), 1.0 / config["scaling_factor"])


def _exact_enough(values: Tensor) -> AbstractContextManager:
    """Float16 overflows in some published autoencoders, bfloat16 does not."""
    kind = values.device.type
    if torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16:
        return torch.autocast(kind, enabled=False)
    return nullcontext()
