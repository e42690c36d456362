"""Slots to images by latent diffusion."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from slotseg.decoders.build import DECODER_REGISTRY
from slotseg.decoders.decoded import Decoded, Regression
from slotseg.decoders.diffusion.codec import ImageCodec
from slotseg.decoders.diffusion.colors import ColorSpace
from slotseg.decoders.diffusion.noise import NoiseProcess
from slotseg.decoders.diffusion.saved_codec import load_codec
from slotseg.decoders.diffusion.unet import build_unet
from slotseg.errors import ConfigError
from slotseg.slots.state import SlotState


@DECODER_REGISTRY.register()
class LatentDiffusionDecoder(nn.Module):
    """Denoises the latents of the image; the slots are all that it is told.

    SlotDiffusion (Wu et al. 2023) and LSD (Jiang et al. 2023): a frozen autoencoder makes latents,
    a UNet is trained to find the noise in them, with the slots as tokens of its cross-attention,
    and slots become what helps it. It makes no masks: put a decoder that does before it.

    Drawing a picture takes many steps of the UNet, so in inference nothing happens unless
    ``draws`` is set, see :func:`slotseg.decoders.drawing`; the noise then comes from PyTorch's
    global generator.

    Args:
        slot_dim: length D of a slot.
        codec: trained; it is frozen and stays in evaluation mode.
        unet: noisy latents, times and tokens ``[B, K, D]`` to a prediction.
        noise: the process.
        colors: of the model's images.
        image_size: (height, width) in pixels at which images are encoded, multiples of the codec's
            stride; None: those of the input, rounded up.

    Raises:
        ConfigError: an image size that the codec cannot divide.
    """

    makes_masks = False
    # Not in training: there it gives its prediction of the noise.
    makes_reconstruction = False
    makes_noise = True

    @configurable
    def __init__(
        self,
        *,
        slot_dim: int,
        codec: ImageCodec,
        unet: nn.Module,
        noise: NoiseProcess,
        colors: ColorSpace,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if image_size is not None and (
            len(image_size) != 2 or any(side < 1 or side % codec.stride for side in image_size)
        ):
            raise ConfigError(
                f"MODEL.DIFFUSION.IMAGE_SIZE {tuple(image_size)}: height and width must be "
                f"multiples of {codec.stride}, the stride of the autoencoder; empty: the input's"
            )
        self.image_size = image_size
        self.codec = codec.requires_grad_(False).eval()
        self.tokens = nn.LayerNorm(slot_dim)
        self.unet = unet
        self.noise = noise
        self.colors = colors
        # Whether pictures are drawn in inference.
        self.draws = False

    @classmethod
    def from_config(cls, cfg: CfgNode, backbone_shape: dict[str, ShapeSpec]) -> dict:
        """Read ``MODEL.DIFFUSION``."""
        node = cfg.MODEL.DIFFUSION
        codec = load_codec(node.AUTOENCODER, trust_pickle=cfg.MODEL.TRUST_PICKLE)
        return {
            "slot_dim": cfg.MODEL.SLOTS.DIM,
            "codec": codec,
            "unet": build_unet(
                latent_channels=codec.latent_channels,
                condition_dim=cfg.MODEL.SLOTS.DIM,
                channels=node.CHANNELS,
                blocks=node.BLOCKS,
                attention=node.ATTENTION,
                head_dim=node.HEAD_DIM,
                norm_groups=node.NORM_GROUPS,
            ),
            "noise": NoiseProcess(
                timesteps=node.TIMESTEPS,
                beta_schedule=node.BETA_SCHEDULE,
                beta_start=node.BETA_START,
                beta_end=node.BETA_END,
                prediction=node.PREDICTION,
                sampler=node.SAMPLER,
                sampler_steps=node.SAMPLER_STEPS,
            ),
            "colors": ColorSpace(cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, cfg.INPUT.FORMAT),
            "image_size": tuple(node.IMAGE_SIZE) or None,
        }

    def train(self, mode: bool = True) -> LatentDiffusionDecoder:
        """Training mode for all but the frozen autoencoder."""
        super().train(mode)
        self.codec.eval()
        return self

    def forward(self, slots: SlotState, features: dict[str, Tensor], images: Tensor) -> Decoded:
        """In training the prediction of the noise; in inference a picture, if it ``draws``."""
        tokens = self.tokens(slots.slots)
        if self.training:
            return Decoded(noise=self._denoise(tokens, images))
        return Decoded(reconstruction=self._draw(tokens, images) if self.draws else None)

    def _denoise(self, tokens: Tensor, images: Tensor) -> Regression:
        with torch.no_grad():
            rgb = self.colors.to_rgb(images.float())
            rgb = F.interpolate(rgb, self._size(images), mode="bilinear", antialias=True)
            noisy, times, target = self.noise.add_noise(self.codec.encode(rgb))
        return Regression(self.unet(noisy, times, tokens).sample.float(), target)

    @torch.no_grad()
    def _draw(self, tokens: Tensor, images: Tensor) -> Tensor:
        size = [side // self.codec.stride for side in self._size(images)]
        latents = torch.randn(
            images.shape[0], self.codec.latent_channels, *size, device=images.device
        )
        latents = self.noise.sample(latents, lambda x, t: self.unet(x, t, tokens).sample)
        return self.colors.from_rgb(self.codec.decode(latents))

    def _size(self, images: Tensor) -> tuple[int, int]:
        stride = self.codec.stride
        height, width = self.image_size or images.shape[-2:]
        return -(-height // stride) * stride, -(-width // stride) * stride
