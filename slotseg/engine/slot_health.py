"""Have the slots collapsed? Numbers, and what they mean in plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

HEALTHY, WARNING, COLLAPSED = "healthy", "warning", "collapsed"

# Above this normalised entropy no pixel really belongs to a slot.
_UNIFORM_ENTROPY = 0.95
# Fewer slots than this in use, averaged over images: one owns everything.
_SINGLE_OWNER = 1.5
# Gradient norms below this do not move weights in float32.
_DEAD_GRADIENT = 1e-10


@dataclass(frozen=True)
class SlotStatistics:
    """Means over the images of a batch.

    Attributes:
        similarity: cosine similarity of two different slots of an image, mean over pairs;
            1: all slots alike, 0: orthogonal on average. 0 with a single slot.
        mask_entropy: entropy of a pixel's distribution over the K slots divided by log K, mean
            over pixels; 0: every pixel belongs to one slot, 1: every mask is uniform.
        slots_in_use: slots that have the largest mask value in at least one pixel, at the masks'
            own resolution.
        largest_share: share of the pixels that the slot with most pixels wins.
    """

    similarity: float
    mask_entropy: float
    slots_in_use: float
    largest_share: float

    def as_dict(self) -> dict[str, float]:
        """By name."""
        return asdict(self)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: ``level`` is ``warning`` or ``collapsed``."""

    level: str
    message: str


@torch.no_grad()
def slot_statistics(outputs: Sequence[Mapping[str, Any]]) -> SlotStatistics:
    """Statistics of a model's inference outputs.

    Args:
        outputs: one dict an image, with ``slots`` ``[K, D]`` and ``slot_masks`` ``[K, h, w]``;
            independent masks count relative to each other.
    """
    slots = torch.stack([o["slots"] for o in outputs]).double()
    masks = torch.stack([o["slot_masks"] for o in outputs]).double()
    winners = masks.argmax(dim=1).flatten(1)
    shares = torch.stack([(winners == k).double().mean(1) for k in range(masks.shape[1])], dim=1)
    return SlotStatistics(
        similarity=mean_similarity(slots),
        mask_entropy=_mean_entropy(masks),
        slots_in_use=float((shares > 0).double().sum(1).mean()),
        largest_share=float(shares.amax(1).mean()),
    )


@torch.no_grad()
def sibling_similarity(outputs: Sequence[Mapping[str, Any]]) -> float | None:
    """Cosine similarity of two slots with the same parent, mean over parents and images.

    Args:
        outputs: one dict an image, with ``slots`` ``[K, D]`` and ``parent_of`` ``[K]``.

    Returns:
        None for slots without parents; 0 where every parent has a single slot.
    """
    if not all("parent_of" in o for o in outputs):
        return None
    families = [
        o["slots"][o["parent_of"] == parent].double()
        for o in outputs
        for parent in o["parent_of"].unique()
    ]
    alike = [mean_similarity(family[None]) for family in families if len(family) > 1]
    return sum(alike) / len(alike) if alike else 0.0


def diagnose(
    statistics: SlotStatistics,
    gradient_norms: Mapping[str, float],
    *,
    num_slots: int,
    similarity_warning: float,
    similarity_error: float,
    siblings: float | None = None,
) -> list[Finding]:
    """What is wrong, worst first, each with the options that usually help.

    Args:
        statistics: of a probe batch.
        gradient_norms: of the rooms, from the last training step; may be empty.
        num_slots: K.
        similarity_warning, similarity_error: limits on ``similarity`` and ``siblings``.
        siblings: see :func:`sibling_similarity`; None: one level only.
    """
    findings: list[Finding] = []
    alike = statistics.similarity
    if num_slots > 1 and alike > similarity_warning:
        level = COLLAPSED if alike > similarity_error else WARNING
        state = "have become" if level == COLLAPSED else "are becoming"
        findings.append(Finding(level, f"the slots {state} alike {_similarity_advice(alike)}"))
    # Siblings start alike by half and look at one region: only near equality is it a fault.
    if siblings is not None and siblings > similarity_error:
        findings.append(Finding(WARNING, _sibling_advice(siblings)))
    if num_slots > 1 and statistics.slots_in_use < _SINGLE_OWNER:
        findings.append(Finding(COLLAPSED, _single_owner_advice(statistics)))
    if num_slots > 1 and statistics.mask_entropy > _UNIFORM_ENTROPY:
        findings.append(Finding(COLLAPSED, _uniform_advice(statistics.mask_entropy)))
    for room, norm in gradient_norms.items():
        if norm < _DEAD_GRADIENT:
            findings.append(Finding(COLLAPSED, _dead_advice(room, norm)))
    return worst_first(findings)


def worst_first(findings: Sequence[Finding]) -> list[Finding]:
    """Findings of the worst level first, else in their order."""
    return sorted(findings, key=lambda finding: finding.level != COLLAPSED)


def verdict(findings: Sequence[Finding]) -> str:
    """``healthy``, ``warning`` or ``collapsed``: the worst level."""
    levels = {finding.level for finding in findings}
    return next((level for level in (COLLAPSED, WARNING) if level in levels), HEALTHY)


def mean_similarity(slots: Tensor) -> float:
    """Cosine similarity of two different slots of an image, mean over pairs and images.

    Args:
        slots: ``[B, K, D]``; 0 with fewer than two slots.
    """
    num_slots = slots.shape[1]
    if num_slots < 2:
        return 0.0
    unit = slots / slots.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    cosine = unit @ unit.transpose(1, 2)
    off_diagonal = cosine.sum((1, 2)) - cosine.diagonal(dim1=1, dim2=2).sum(1)
    return float((off_diagonal / (num_slots * (num_slots - 1))).mean())


def _mean_entropy(masks: Tensor) -> float:
    num_slots = masks.shape[1]
    if num_slots < 2:
        return 0.0
    # Independent masks do not sum to 1.
    shares = masks / masks.sum(1, keepdim=True).clamp_min(1e-12)
    return float(-torch.special.xlogy(shares, shares).sum(1).mean() / math.log(num_slots))


def _similarity_advice(similarity: float) -> str:
    return (
        f"(mean cosine similarity {similarity:.2f}), so they cannot hold different objects: raise "
        "LOSSES.DIVERSITY.WEIGHT, start each slot elsewhere with MODEL.SLOTS.INITIALIZER.NAME "
        "LearnedInitializer or OrthogonalInitializer, or lower SOLVER.BASE_LR"
    )


def _sibling_advice(similarity: float) -> str:
    return (
        f"the sub-slots of a parent are alike (mean cosine similarity {similarity:.2f}), so that "
        "the lower level divides nothing: raise LOSSES.DIVERSITY.WEIGHT or lower SOLVER.BASE_LR"
    )


def _single_owner_advice(statistics: SlotStatistics) -> str:
    return (
        f"one slot owns everything ({statistics.slots_in_use:.1f} slots in use, the largest has "
        f"{statistics.largest_share:.0%} of the pixels): lengthen SOLVER.WARMUP_ITERS or lower "
        "SOLVER.BASE_LR, switch SOLVER.CLIP_GRADIENTS.ENABLED on, or, with true masks at hand, "
        "raise LOSSES.MASKS.WEIGHT"
    )


def _uniform_advice(entropy: float) -> str:
    return (
        f"the masks are uniform (entropy {entropy:.2f} of 1), so no slot has chosen any pixel: "
        "raise MODEL.SLOTS.GROUPING.ITERATIONS, give positions with MODEL.SLOTS.POSITION soft or "
        "fourier, or train longer with SOLVER.MAX_ITER"
    )


def _dead_advice(room: str, norm: float) -> str:
    return (
        f"no gradient reaches the {room} (norm {norm:.1e}), so it does not learn: check that a "
        "loss depends on it (LOSSES.*.WEIGHT above 0), lower SOLVER.BASE_LR, or set "
        "SOLVER.AMP.ENABLED False"
    )
