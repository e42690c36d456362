"""Pretraining a vision transformer on images without labels: a masked autoencoder."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from torch import Tensor, nn

from slotseg.backbone.vit import VisionTransformerBackbone
from slotseg.errors import ConfigError
from slotseg.meta_arch.images import stack_images
from slotseg.meta_arch.pretraining.patch_decoder import PatchDecoder
from slotseg.meta_arch.pretraining.visible_patches import VisiblePatches
from slotseg.ops.patches import from_patches, to_patches


@META_ARCH_REGISTRY.register()
class MaskedAutoencoder(nn.Module):
    """Most patches of an image are hidden; a small decoder paints them from what the ViT sees of
    the others (He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022).

    The ViT runs on the visible patches alone, which makes a step several times cheaper than on the
    whole image. The decoder is thrown away afterwards: give the checkpoint to ``MODEL.VIT.WEIGHTS``
    of a model with ``build_dinov2_backbone``.

    Args:
        backbone: whose ``vit`` is trained, all of it; gives the patches.
        mask_ratio: share of the patches that are hidden, between 0 and 1; at least one patch is
            visible and one hidden.
        decoder, decoder_dim, decoder_depth: kind, width and number of the decoder's blocks, see
            :class:`PatchDecoder`.
        normalize_patches: paint every patch relative to its own mean colour and deviation instead
            of its pixels (He et al. take one mean over all channels).
        flat_deviation: for these, the deviation below which a patch counts as flat, in the ViT's
            normalisation: otherwise most of the loss of scenes with plain grounds is their noise.
        color_weight: for these, weight of the loss on the mean colours of the patches; 0: they are
            not painted. Relative patches say nothing about colours, and a ViT that need not tell
            them loses them.
        pixel_mean, pixel_std: per channel, in 0..255 and in the order of ``INPUT.FORMAT``.

    Raises:
        ConfigError: a ViT that is not trained as a whole, or options out of range.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: VisionTransformerBackbone,
        mask_ratio: float,
        decoder: str,
        decoder_dim: int,
        decoder_depth: int,
        normalize_patches: bool,
        flat_deviation: float,
        color_weight: float,
        pixel_mean: list[float],
        pixel_std: list[float],
    ) -> None:
        super().__init__()
        if not 0.0 < mask_ratio < 1.0:
            raise ConfigError(f"MODEL.MAE.MASK_RATIO is {mask_ratio}, it must be between 0 and 1")
        if flat_deviation <= 0.0 or color_weight < 0.0:
            raise ConfigError(
                f"MODEL.MAE: FLAT_DEVIATION is {flat_deviation} and COLOR_WEIGHT {color_weight}, "
                "they must be above 0 and not below 0"
            )
        self.backbone = backbone
        self.visible = VisiblePatches(backbone.vit)
        self.mask_ratio = mask_ratio
        self.normalize_patches = normalize_patches
        self.flat_deviation = flat_deviation
        self.color_weight = color_weight if normalize_patches else 0.0
        rows, columns = backbone.patch_size
        self.decoder = PatchDecoder(
            backbone.vit.embed_dim,
            decoder,
            decoder_dim,
            decoder_depth,
            out_channels=(rows * columns + (self.color_weight > 0.0)) * 3,
        )
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Build from ``cfg.MODEL.MAE`` and the ViT of ``cfg.MODEL.VIT``."""
        node = cfg.MODEL.MAE
        return {
            "backbone": _trained_vit(cfg),
            "mask_ratio": node.MASK_RATIO,
            "decoder": node.DECODER,
            "decoder_dim": node.DECODER_DIM,
            "decoder_depth": node.DECODER_DEPTH,
            "normalize_patches": node.NORMALIZE_PATCHES,
            "flat_deviation": node.FLAT_DEVIATION,
            "color_weight": node.COLOR_WEIGHT,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self) -> torch.device:
        """Where the weights and normalised images live."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """The loss in training, painted images otherwise. Which patches are hidden is drawn from
        torch's global generator in both.

        Args:
            batched_inputs: one dict an image, all of one size: ``image`` ``[3, H, W]`` uint8 in the
                order of ``INPUT.FORMAT`` and, for messages, ``file_name``. Labels are not used.

        Returns:
            In training a dict of weighted scalar losses over the hidden patches: ``loss_patches``
            and, where colours are painted, ``loss_colors``. In inference one dict an image, pixels
            in 0..255:

            * ``reconstruction``: ``[3, H, W]`` float32, the hidden patches painted;
            * ``masked_image``: ``[3, H, W]`` float32, the hidden patches grey.

        Raises:
            DatasetError: images of different sizes.
            ConfigError: images of a single patch.
        """
        images = self.preprocess(batched_inputs)
        pixels = self.backbone.prepare(images)
        grid = self.backbone.grid(*images.shape[-2:])
        patches = to_patches(pixels, self.backbone.patch_size)
        visible, hidden = self.draw(len(images), grid)
        painted = self.decoder(self.encode(pixels, visible), visible, grid)
        if self.training:
            return self.compute_losses(painted, patches, hidden)
        return self.paint(painted, patches, hidden, grid, images.shape[-2:])

    def preprocess(self, batched_inputs: list[dict[str, Any]]) -> Tensor:
        """Images as one normalised batch ``[B, 3, H, W]`` on the model's device."""
        batch = stack_images(batched_inputs).to(self.device)
        return (batch - self.pixel_mean) / self.pixel_std

    def draw(self, count: int, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """A random division of the patches of ``count`` images.

        Returns:
            Indices of the visible ``[count, n]`` and of the hidden ones ``[count, N - n]``.
        """
        total = grid[0] * grid[1]
        if total < 2:
            raise ConfigError(
                "MaskedAutoencoder: an image of one patch has nothing to be painted from; raise "
                "INPUT.IMAGE_SIZE or lower MODEL.VIT.STRIDE"
            )
        kept = min(max(round(total * (1.0 - self.mask_ratio)), 1), total - 1)
        order = torch.rand(count, total, device=self.device).argsort(dim=1)
        return order[:, :kept], order[:, kept:]

    def encode(self, pixels: Tensor, visible: Tensor) -> Tensor:
        """``[B, 3, h * P, w * Q]`` to the tokens ``[B, n, D]`` of the ``visible`` patches."""
        with self.visible.only(visible):
            tokens = self.backbone.vit.forward_features(pixels)
        return tokens[:, self.backbone.vit.num_prefix_tokens :]

    def compute_losses(self, painted: Tensor, patches: Tensor, hidden: Tensor) -> dict[str, Tensor]:
        """Mean squared errors over the hidden patches, in float32 also under autocast.

        Args:
            painted: ``[B, N, P * Q * 3]``, and 3 more where colours are painted.
            patches: ``[B, N, P * Q * 3]``, in the ViT's normalisation.
            hidden: ``[B, n]`` int64.
        """
        with torch.autocast(self.device.type, enabled=False):
            content, colors = self._parts(_pick(painted.float(), hidden))
            wanted, mean, _ = self._as_painted(_pick(patches.float(), hidden))
            losses = {"loss_patches": F.mse_loss(content, wanted)}
            if self.color_weight > 0.0:
                losses["loss_colors"] = self.color_weight * F.mse_loss(colors, mean)
            return losses

    @torch.no_grad()
    def paint(
        self,
        painted: Tensor,
        patches: Tensor,
        hidden: Tensor,
        grid: tuple[int, int],
        size: tuple[int, int],
    ) -> list[dict[str, Tensor]]:
        """The visible patches as they are and the hidden ones as painted, see :meth:`forward`.

        Where patches are painted relative to their deviation, that is the image's own, and so are
        their mean colours where these are not painted.
        """
        content, colors = self._parts(painted.float())
        _, mean, deviation = self._as_painted(patches.float())
        whole = self._with_color(content * deviation, colors if self.color_weight > 0.0 else mean)
        is_hidden = patches.new_zeros(patches.shape[:2]).scatter(1, hidden, 1.0).bool()
        pictures = {
            "reconstruction": torch.where(is_hidden.unsqueeze(-1), whole, patches),
            "masked_image": patches.masked_fill(is_hidden.unsqueeze(-1), 0.0),
        }
        drawn = {name: self._pixels(p, grid, size) for name, p in pictures.items()}
        return [{name: d[i] for name, d in drawn.items()} for i in range(len(patches))]

    def _parts(self, painted: Tensor) -> tuple[Tensor, Tensor]:
        """What the decoder painted: contents ``[B, n, P * Q * 3]`` and colours, 3 or none."""
        inside = painted.shape[-1] - 3 * (self.color_weight > 0.0)
        return painted[..., :inside], painted[..., inside:]

    def _as_painted(self, patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Contents ``[B, n, P * Q * 3]`` as the decoder is to paint them, and what they are
        relative to: mean colours ``[B, n, 3]`` and deviations ``[B, n, 1]``.
        """
        pixels = patches.unflatten(-1, (-1, 3))
        mean = pixels.mean(dim=-2)
        if not self.normalize_patches:
            return patches, torch.zeros_like(mean), torch.ones_like(mean[..., :1])
        contrast = (pixels - mean.unsqueeze(-2)).flatten(-2)
        # Not below the flat deviation, and close to the own one far above it.
        variance = contrast.square().mean(dim=-1, keepdim=True)
        deviation = (variance + self.flat_deviation**2).sqrt()
        return contrast / deviation, mean, deviation

    def _with_color(self, contents: Tensor, colors: Tensor) -> Tensor:
        """``[B, N, P * Q * 3]`` with ``[B, N, 3]`` added to every pixel."""
        return (contents.unflatten(-1, (-1, 3)) + colors.unsqueeze(-2)).flatten(-2)

    def _pixels(self, patches: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Patches in the ViT's normalisation to ``[B, 3, H, W]`` in 0..255."""
        pixels = from_patches(patches, self.backbone.patch_size, grid)
        pixels = (pixels - self.backbone.pixel_shift) / self.backbone.pixel_scale
        if pixels.shape[-2:] != size:
            pixels = F.interpolate(pixels, size, mode="bilinear", align_corners=False)
        return (pixels * self.pixel_std + self.pixel_mean).clamp(0.0, 255.0)


def _pick(patches: Tensor, index: Tensor) -> Tensor:
    """``[B, N, C]`` at ``[B, n]``: ``[B, n, C]``."""
    return patches.gather(1, index.unsqueeze(-1).expand(-1, -1, patches.shape[-1]))


def _trained_vit(cfg: CfgNode) -> VisionTransformerBackbone:
    """The backbone of the config, which must be a ViT of which everything is trained."""
    backbone = build_backbone(cfg)
    if not isinstance(backbone, VisionTransformerBackbone):
        raise ConfigError(
            f"MODEL.BACKBONE.NAME: MaskedAutoencoder trains a ViT, not {cfg.MODEL.BACKBONE.NAME}; "
            "set it to build_dinov2_backbone"
        )
    if not all(parameter.requires_grad for parameter in backbone.vit.parameters()):
        raise ConfigError(
            "MODEL.VIT.UNFROZEN_BLOCKS: MaskedAutoencoder trains all of the ViT; set it to -1"
        )
    if not cfg.MODEL.VIT.WEIGHTS:
        _start_positions(backbone.vit)
    return backbone


@torch.no_grad()
def _start_positions(vit: nn.Module) -> None:
    """Learnt positions start as sines and cosines, which He et al. use throughout: from noise a
    short training does not learn which patches are neighbours.
    """
    from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed

    positions = getattr(vit, "pos_embed", None)
    if positions is None or vit.embed_dim % 4:
        return
    waves = build_sincos2d_pos_embed(list(vit.patch_embed.grid_size), vit.embed_dim)
    # Class and register tokens come first, where they have positions at all.
    positions[0, positions.shape[1] - len(waves) :] = waves
