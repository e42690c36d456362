"""Which parts of a vision transformer are trained, and how deep they lie."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import parametrize

from slotseg.backbone.low_rank import LowRankUpdate
from slotseg.errors import ConfigError

_ATTENTION_MATRICES = ("qkv", "q_proj", "k_proj", "v_proj", "proj")


def unfreeze_last_blocks(vit: nn.Module, count: int) -> list[nn.Module]:
    """Let only the last ``count`` blocks and the final norm be trained; freeze the rest.

    Args:
        vit: one of timm's vision transformers.
        count: 0 freezes all of it, -1 nothing.

    Returns:
        The modules that are trained.

    Raises:
        ConfigError: there are not so many blocks.
    """
    depth = len(vit.blocks)
    if not -1 <= count <= depth:
        raise ConfigError(
            f"MODEL.VIT.UNFROZEN_BLOCKS: {count}, but the ViT has {depth} blocks; choose 0 to "
            f"{depth}, or -1 for all of it with its embeddings"
        )
    if count == -1:
        vit.requires_grad_(True)
        return [vit]
    vit.requires_grad_(False)
    trained = [*vit.blocks[depth - count :], vit.norm] if count else []
    for module in trained:
        module.requires_grad_(True)
    return trained


def add_low_rank_updates(vit: nn.Module, rank: int) -> None:
    """Add a trained update of low rank to every frozen matrix of the attention, in all blocks.

    Raises:
        ConfigError: the rank does not fit the matrices, or none of them is frozen.
    """
    if not 0 < rank <= vit.embed_dim:
        raise ConfigError(
            f"MODEL.VIT.LORA_RANK: {rank}, but the ViT is {vit.embed_dim} wide; choose 0 (off) to "
            f"{vit.embed_dim}"
        )
    frozen = [
        matrix
        for block in vit.blocks
        for name in _ATTENTION_MATRICES
        if (matrix := getattr(block.attn, name, None)) is not None
        and not matrix.weight.requires_grad
    ]
    if not frozen:
        raise ConfigError(
            "MODEL.VIT.LORA_RANK: every block is trained already; set it to 0, or "
            "MODEL.VIT.UNFROZEN_BLOCKS lower"
        )
    for matrix in frozen:
        parametrize.register_parametrization(
            matrix, "weight", LowRankUpdate(*matrix.weight.shape, rank)
        )


def layers(vit: nn.Module) -> list[list[nn.Parameter]]:
    """The ViT's parameters from the embeddings over the blocks to what comes after them."""
    blocks = [list(block.parameters()) for block in vit.blocks]
    after = list(vit.norm.parameters())
    placed = {parameter for group in (*blocks, after) for parameter in group}
    embeddings = [parameter for parameter in vit.parameters() if parameter not in placed]
    return [embeddings, *blocks, after]
