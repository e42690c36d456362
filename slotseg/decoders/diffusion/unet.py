"""The denoising network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from slotseg.errors import ConfigError


def build_unet(
    *,
    latent_channels: int,
    condition_dim: int,
    channels: Sequence[int],
    blocks: int,
    attention: Sequence[bool],
    head_dim: int,
    norm_groups: int,
) -> nn.Module:
    """A UNet2DConditionModel that asks its condition wherever it attends (Rombach et al. 2022).

    Args:
        latent_channels: of the latents and of the prediction.
        condition_dim: length of a token of the condition.
        channels: at the latents' resolution, a half of it, a quarter, ...
        blocks: residual blocks at each resolution on the way down; one more on the way up.
        attention: whether those of a resolution are followed by attention.
        head_dim: channels of an attention head.
        norm_groups: groups of the group normalisation.

    Raises:
        ConfigError: numbers that do not fit together.
    """
    from diffusers import UNet2DConditionModel

    if not channels or len(channels) != len(attention):
        raise ConfigError(
            f"MODEL.DIFFUSION: {len(channels)} CHANNELS but {len(attention)} ATTENTION; give one "
            "of each for every resolution"
        )
    for name, value in (("BLOCKS", blocks), ("HEAD_DIM", head_dim), ("NORM_GROUPS", norm_groups)):
        if value < 1:
            raise ConfigError(f"MODEL.DIFFUSION.{name} is {value}, it must be at least 1")
    for name, divisor in (("HEAD_DIM", head_dim), ("NORM_GROUPS", norm_groups)):
        odd = [width for width in channels if width % divisor]
        if odd:
            raise ConfigError(
                f"MODEL.DIFFUSION.CHANNELS: {odd[0]} is no multiple of {name} {divisor}"
            )
    down = ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in attention]
    up = ["CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(attention)]
    return UNet2DConditionModel(
        in_channels=latent_channels,
        out_channels=latent_channels,
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        block_out_channels=tuple(channels),
        layers_per_block=blocks,
        cross_attention_dim=condition_dim,
        # The library's name is wrong: it is the number of heads.
        attention_head_dim=tuple(width // head_dim for width in channels),
        norm_num_groups=norm_groups,
    )
