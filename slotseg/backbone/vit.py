"""Vision transformers of timm as backbones: DINOv2, DINOv3 and whatever else it builds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn

from slotseg.backbone.vit_build import create_vit
from slotseg.backbone.vit_keys import attention_keys, key_channels
from slotseg.backbone.vit_tuning import add_low_rank_updates, layers, unfreeze_last_blocks
from slotseg.errors import ConfigError

# The map of the last block's attention keys.
KEYS = "keys"


class VisionTransformerBackbone(Backbone):
    """A ViT whose last patch tokens are a feature map (Dosovitskiy et al. 2021; DINOv2: Oquab et
    al. 2024).

    Every image is resized so that a whole number of patches covers exactly the image, whatever its
    size: with a stride of 16 pixels, patches of 14 pixels see an image of 512x1024 as 448x896, one
    smaller than half a stride as a single patch. Position embeddings are resampled to that grid.

    What is frozen is in evaluation mode, has no gradient and keeps nothing for one.

    Args:
        vit: one of timm's vision transformers that take images of any size.
        stride: pixels of the image a token, in both directions; 0: the side of a patch.
        keys: also give the attention keys of the last block as the map ``keys``: without rotary
            position, and where the model normalises keys, normalised.
        unfrozen_blocks: the last blocks that are trained, together with the final norm; -1: all of
            the ViT, embeddings included; 0: none.
        lora_rank: rank of a trained update of every attention matrix that is not trained itself
            (LoRA, Hu et al. 2022); 0: none.
        layer_decay: factor on the learning rate from one trained block to the one before it.
        pixel_scale, pixel_shift: per channel, what takes the pixels from the model's normalisation
            to that of the ViT's weights: ``pixels * scale + shift``.
    """

    def __init__(
        self,
        vit: nn.Module,
        *,
        stride: int = 0,
        keys: bool = False,
        unfrozen_blocks: int = 0,
        lora_rank: int = 0,
        layer_decay: float = 1.0,
        pixel_scale: tuple[float, ...] = (1.0, 1.0, 1.0),
        pixel_shift: tuple[float, ...] = (0.0, 0.0, 0.0),
    ) -> None:
        super().__init__()
        self.vit = vit
        self.patch_size: tuple[int, int] = tuple(vit.patch_embed.patch_size)
        self.stride = stride or self.patch_size[0]
        self.layer_decay = layer_decay
        self.register_buffer("pixel_scale", torch.tensor(pixel_scale).view(-1, 1, 1), False)
        self.register_buffer("pixel_shift", torch.tensor(pixel_shift).view(-1, 1, 1), False)
        self._trained = unfreeze_last_blocks(vit, unfrozen_blocks)
        if lora_rank:
            add_low_rank_updates(vit, lora_rank)
        self.map_name = f"s{self.stride}"
        channels = {self.map_name: vit.embed_dim}
        if keys:
            channels[KEYS] = key_channels(vit)
        self._out_features = list(channels)
        self._out_feature_channels = channels
        self._out_feature_strides = dict.fromkeys(channels, self.stride)
        self.train(self.training)

    @property
    def frozen(self) -> bool:
        """Whether no parameter of the ViT is trained, so that its maps may be cached."""
        return not any(parameter.requires_grad for parameter in self.vit.parameters())

    def train(self, mode: bool = True) -> VisionTransformerBackbone:
        """Only what is trained enters training mode: a frozen part drops nothing at random."""
        super().train(mode)
        self.vit.eval()
        for module in self._trained:
            module.train(mode)
        return self

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of tokens of an image of this size in pixels; at least one each."""
        return tuple(max(1, int(side / self.stride + 0.5)) for side in (height, width))

    def prepare(self, images: Tensor) -> Tensor:
        """Images as the ViT takes them: whole patches, normalised as its weights want.

        Args:
            images: ``[B, 3, H, W]``, normalised as the model normalises.

        Returns:
            ``[B, 3, h * patch, w * patch]`` for the (h, w) of :meth:`grid`.
        """
        rows, columns = self.grid(*images.shape[-2:])
        size = (rows * self.patch_size[0], columns * self.patch_size[1])
        if size != images.shape[-2:]:
            images = F.interpolate(
                images, size, mode="bilinear", align_corners=False, antialias=True
            )
        return images * self.pixel_scale + self.pixel_shift

    def token_maps(self, images: Tensor) -> dict[str, Tensor]:
        """All that depends on the ViT; for a frozen one this may be cached.

        Args:
            images: ``[B, 3, H, W]``, normalised as the model normalises.

        Returns:
            ``{"s<stride>": [B, C, h, w]}`` after the final norm, and ``keys`` ``[B, C', h, w]``.
        """
        with torch.no_grad() if self.frozen else nullcontext():
            pixels = self.prepare(images)
            grid = self.grid(*images.shape[-2:])
            if KEYS not in self._out_features:
                return {self.map_name: self._map(self.vit.forward_features(pixels), grid)}
            with attention_keys(self.vit) as found:
                tokens = self.vit.forward_features(pixels)
            return {self.map_name: self._map(tokens, grid), KEYS: self._map(found[0], grid)}

    def forward(
        self, images: Tensor, maps: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """``[B, 3, H, W]`` normalised pixels to the maps of :meth:`token_maps`.

        Args:
            images: as for :meth:`token_maps`.
            maps: what :meth:`token_maps` gave for these images before, in any float type; the ViT
                does not run then.

        Raises:
            ConfigError: maps for a ViT that is trained, or maps that lack a name.
        """
        if maps is None:
            return self.token_maps(images)
        if not self.frozen:
            raise ConfigError(
                "MODEL.VIT: cached maps are of the ViT before training, but it is trained here; "
                "set UNFROZEN_BLOCKS and LORA_RANK to 0, or use no cache"
            )
        lacking = [name for name in self._out_features if name not in maps]
        if lacking:
            raise ConfigError(
                f"MODEL.VIT: the cached maps lack {', '.join(lacking)}; cache them anew"
            )
        return {name: maps[name].to(images.dtype) for name in self._out_features}

    def learning_rate_factors(self) -> Iterator[tuple[nn.Parameter, float]]:
        """Each parameter's factor on the learning rate: ``layer_decay ** blocks above it``.

        As in BEiT (Bao et al. 2022) and ViTDet: 1 for the final norm, ``layer_decay`` for the last
        block, one more power with each block before it, the embeddings last.
        """
        stack = layers(self.vit)
        for depth, parameters in enumerate(stack):
            factor = self.layer_decay ** (len(stack) - 1 - depth)
            for parameter in parameters:
                yield parameter, factor

    def _map(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """``[B, prefix + h * w, C]`` without class and register tokens as ``[B, C, h, w]``."""
        return tokens[:, self.vit.num_prefix_tokens :].transpose(1, 2).unflatten(2, grid)


@BACKBONE_REGISTRY.register()
def build_dinov2_backbone(
    cfg: CfgNode, input_shape: ShapeSpec | None = None
) -> VisionTransformerBackbone:
    """Build :class:`VisionTransformerBackbone` from ``MODEL.VIT``.

    Raises:
        ConfigError: an unknown ViT, options that it does not take, or ones that contradict.
        CheckpointError: weights that are missing, or of another ViT.
    """
    node = cfg.MODEL.VIT
    if cfg.INPUT.FORMAT != "RGB":
        raise ConfigError(f"INPUT.FORMAT: {cfg.INPUT.FORMAT}, but a ViT takes RGB; set it to RGB")
    if node.STRIDE < 0:
        raise ConfigError(
            f"MODEL.VIT.STRIDE: {node.STRIDE}; give pixels, or 0 for those of a patch"
        )
    if not 0.0 < node.LAYER_DECAY <= 1.0:
        raise ConfigError(
            f"MODEL.VIT.LAYER_DECAY: {node.LAYER_DECAY}; give a factor above 0, 1 for one rate"
        )
    return VisionTransformerBackbone(
        create_vit(node.NAME, dict(node.ARGS), node.WEIGHTS, trust_pickle=cfg.MODEL.TRUST_PICKLE),
        stride=node.STRIDE,
        keys=node.KEYS,
        unfrozen_blocks=node.UNFROZEN_BLOCKS,
        lora_rank=node.LORA_RANK,
        layer_decay=node.LAYER_DECAY,
        **_renormalisation(cfg),
    )


def _renormalisation(cfg: CfgNode) -> dict[str, Any]:
    """From the model's ``(p - mean) / std`` to the ViT's, as one affine map a channel."""
    for key, lowest in (("PIXEL_MEAN", -math.inf), ("PIXEL_STD", 0.0)):
        values = cfg.MODEL.VIT[key]
        if len(values) != 3 or min(values) <= lowest:
            raise ConfigError(
                f"MODEL.VIT.{key}: {list(values)}; give one number for each of R, G and B"
                f"{', above 0' if lowest == 0.0 else ''}"
            )
    model = zip(cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, strict=True)
    vit = zip(cfg.MODEL.VIT.PIXEL_MEAN, cfg.MODEL.VIT.PIXEL_STD, strict=True)
    pairs = [
        (std / own_std, (mean - own_mean) / own_std)
        for (mean, std), (own_mean, own_std) in zip(model, vit, strict=True)
    ]
    scale, shift = zip(*pairs, strict=True)
    return {"pixel_scale": scale, "pixel_shift": shift}
