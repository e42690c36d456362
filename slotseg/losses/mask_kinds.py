"""Mask logits read as ``MODEL.MASK_ACTIVATION`` says: competing masks, or independent ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import Tensor


def are_independent(cfg: CfgNode) -> bool:
    """Whether every mask is a sigmoid for itself rather than a share of a softmax over slots."""
    return cfg.MODEL.MASK_ACTIVATION == "sigmoid"


def pixel_classes(mask_logits: Tensor, class_logits: Tensor, independent: bool) -> Tensor:
    """What every pixel is, ``sum_k p(c | slot k) mask_k``.

    Args:
        mask_logits: ``[B, K, h, w]``.
        class_logits: ``[B, K, C + 1]``, the last "no object".
        independent: as of :func:`log_shares`.

    Returns:
        ``[B, C + 1, h, w]`` float32; sums to 1 over the classes and "no object".
    """
    shares = log_shares(mask_logits, independent).exp()
    return torch.einsum("bkc,bkhw->bchw", class_logits.float().softmax(dim=2), shares)


def mask_values(mask_logits: Tensor, independent: bool) -> Tensor:
    """Masks in 0..1, float32, of logits ``[B, K, ...]``."""
    logits = mask_logits.float()
    return logits.sigmoid() if independent else logits.softmax(dim=1)


def log_shares(mask_logits: Tensor, independent: bool) -> Tensor:
    """Log of what each slot has of each pixel; the shares sum to 1 over the slots.

    Args:
        mask_logits: ``[B, K, ...]``.
        independent: the masks are sigmoids; they are divided by their sum.

    Returns:
        The same shape, float32.
    """
    logits = mask_logits.float()
    # log(sigmoid / sum of sigmoids), without the division of two small numbers.
    return (F.logsigmoid(logits) if independent else logits).log_softmax(dim=1)
