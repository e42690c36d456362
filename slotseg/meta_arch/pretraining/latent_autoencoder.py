"""Pretraining the latents of the diffusion decoder: an autoencoder of images."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from slotseg.decoders.diffusion import ImageCodec, build_codec
from slotseg.decoders.diffusion.colors import flips_channels
from slotseg.meta_arch.images import stack_images


@META_ARCH_REGISTRY.register()
class LatentAutoencoder(nn.Module):
    """Images to few numbers and back, the first stage of latent diffusion (Rombach et al. 2022).

    Trained on the mean squared error of the image and the penalty of its kind alone: without a
    perceptual and an adversarial loss pictures come out softer than the published ones, but no
    foreign weights are needed. Give the checkpoint to ``MODEL.DIFFUSION.AUTOENCODER``.

    Args:
        codec: the autoencoder.
        penalty_weight: factor of the penalty on the latents.
        image_format: "RGB" or "BGR", channel order of the images.
        channels_last: keep images in channels_last memory order.
    """

    @configurable
    def __init__(
        self, *, codec: ImageCodec, penalty_weight: float, image_format: str, channels_last: bool
    ) -> None:
        super().__init__()
        self.codec = codec
        self.penalty_weight = penalty_weight
        self.flips = flips_channels(image_format)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Build from ``cfg.MODEL.AUTOENCODER``."""
        node = cfg.MODEL.AUTOENCODER
        weights = {"kl": node.KL_WEIGHT, "vq": node.CODEBOOK_WEIGHT}
        return {
            "codec": build_codec(node),
            "penalty_weight": weights.get(node.KIND, 0.0),
            "image_format": cfg.INPUT.FORMAT,
            "channels_last": cfg.MODEL.CHANNELS_LAST,
        }

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return self.codec.latent_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Losses in training, pictures otherwise.

        Args:
            batched_inputs: one dict an image, all of one size: ``image`` ``[3, H, W]`` uint8 in the
                order of ``INPUT.FORMAT`` and, for messages, ``file_name``. Labels are not used.
                Sides that are no multiples of the codec's stride are stretched to the next.

        Returns:
            In training ``loss_reconstruction``, the mean squared error of RGB in [-1, 1], and
            ``loss_latents``, the weighted penalty on the latents, for the kinds that have one. In
            inference one dict an image:

            * ``reconstruction``: ``[3, H, W]`` float32 in 0..255, in the order of the input;
            * ``latents``: ``[C, h, w]`` float32, of mean 0 and deviation 1.

        Raises:
            DatasetError: images of different sizes.
        """
        images = stack_images(batched_inputs)
        rgb = self._preprocess(images)
        if self.training:
            return self.compute_losses(rgb)
        latents = self.codec.encode(rgb)
        made = F.interpolate(self.codec.decode(latents), images.shape[-2:], mode="bilinear")
        made = 127.5 * (made.flip(1) if self.flips else made) + 127.5
        return [
            {"reconstruction": picture, "latents": latent}
            for picture, latent in zip(made, latents, strict=True)
        ]

    def compute_losses(self, rgb: Tensor) -> dict[str, Tensor]:
        """See :meth:`forward`; in float32 also under autocast."""
        compressed = self.codec.compress(rgb)
        losses = {"loss_reconstruction": F.mse_loss(compressed.reconstruction.float(), rgb)}
        if compressed.penalty is not None:
            losses["loss_latents"] = self.penalty_weight * compressed.penalty.float()
        return losses

    def _preprocess(self, images: Tensor) -> Tensor:
        """uint8 ``[B, 3, H, W]`` to RGB in [-1, 1], both sides multiples of the stride."""
        rgb = images.to(self.device).float() / 127.5 - 1.0
        rgb = rgb.flip(1) if self.flips else rgb
        stride = self.codec.stride
        size = [-(-side // stride) * stride for side in rgb.shape[-2:]]
        if size != list(rgb.shape[-2:]):
            rgb = F.interpolate(rgb, size, mode="bilinear")
        return rgb.contiguous(memory_format=self.memory_format)
