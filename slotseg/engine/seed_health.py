"""Do slots that start on their image start apart? Numbers, pictures, and what they mean."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from slotseg.engine.slot_health import COLLAPSED, WARNING, Finding, mean_similarity
from slotseg.ops.principal_plane import principal_plane

# More images than this without a seed are more than a few plain ones.
_MANY_FALLBACKS = 0.5
# Digits of coordinates that a picture can show.
_DIGITS = 4


@dataclass(frozen=True)
class SeedStatistics:
    """Means over the images of a batch.

    Attributes:
        seed_similarity: cosine similarity of two different seeds of an image, mean over pairs and
            over the images with at least two seeds; 0 without any.
        seeded_slots: slots that start on a seed.
        fallback_share: share of the images without any, whose slots all start on learnt queries.
    """

    seed_similarity: float
    seeded_slots: float
    fallback_share: float

    def as_dict(self) -> dict[str, float]:
        """By name."""
        return asdict(self)


@torch.no_grad()
def seed_statistics(outputs: Sequence[Mapping[str, Any]]) -> SeedStatistics | None:
    """Statistics of a model's inference outputs; None if its initialiser does not look at images.

    Args:
        outputs: one dict an image, with ``initial_slots`` ``[M, D]`` and ``seeded_slots``, how
            many of the first ones come from the image.
    """
    if not has_seeds(outputs):
        return None
    counts = torch.tensor([float(o["seeded_slots"]) for o in outputs], dtype=torch.float64)
    alike = [mean_similarity(_seeds(o).double()[None]) for o in outputs if o["seeded_slots"] > 1]
    return SeedStatistics(
        seed_similarity=sum(alike) / len(alike) if alike else 0.0,
        seeded_slots=float(counts.mean()),
        fallback_share=float((counts == 0).double().mean()),
    )


def has_seeds(outputs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the slots of these images start on the images."""
    return bool(outputs) and all("seeded_slots" in o and "initial_slots" in o for o in outputs)


def diagnose_seeds(
    statistics: SeedStatistics, *, similarity_warning: float, similarity_error: float
) -> list[Finding]:
    """What is wrong, each with the options that usually help.

    Args:
        statistics: of a probe batch.
        similarity_warning, similarity_error: limits on ``seed_similarity``.
    """
    findings: list[Finding] = []
    alike = statistics.seed_similarity
    if alike > similarity_warning:
        level = COLLAPSED if alike > similarity_error else WARNING
        findings.append(Finding(level, _alike_advice(alike)))
    if statistics.fallback_share > _MANY_FALLBACKS:
        findings.append(Finding(WARNING, _fallback_advice(statistics.fallback_share)))
    return findings


def seed_planes(outputs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Where the slots of every image start, on the plane in which those of the image spread most.

    Args:
        outputs: as :func:`seed_statistics` takes them.
        names: files of the images.

    Returns:
        One dict an image, of plain numbers: ``image``, the file's name; ``points``, (x, y) of
        every slot; ``seeded``, how many of the first come from the image; ``similarity`` of these;
        ``explained``, the share of the variance that the plane shows.
    """
    planes = []
    for output, name in zip(outputs, names, strict=True):
        points, explained = principal_plane(output["initial_slots"].cpu())
        planes.append(
            {
                "image": os.path.basename(name),
                "points": [[round(value, _DIGITS) for value in row] for row in points.tolist()],
                "seeded": int(output["seeded_slots"]),
                "similarity": round(mean_similarity(_seeds(output).double()[None]), _DIGITS),
                "explained": round(explained, _DIGITS),
            }
        )
    return planes


def _seeds(output: Mapping[str, Any]) -> Tensor:
    return output["initial_slots"][: output["seeded_slots"]]


def _alike_advice(similarity: float) -> str:
    return (
        f"the slots start alike (mean cosine similarity of an image's seeds {similarity:.2f}), so "
        "the start tells no objects apart: compare patches by a map that knows more with "
        "MODEL.SLOTS.SPECTRAL.FEATURE, cut less finely with MODEL.SLOTS.SPECTRAL.COUNT, or sharpen "
        "the parts with a lower MODEL.SLOTS.SPECTRAL.SOFTNESS"
    )


def _fallback_advice(share: float) -> str:
    return (
        f"{share:.0%} of the images fall into no parts, so all their slots start on learnt "
        "queries: compare patches by another map or measure with MODEL.SLOTS.SPECTRAL.FEATURE or "
        "MODEL.SLOTS.SPECTRAL.AFFINITY, or set MODEL.SLOTS.SPECTRAL.COUNT all"
    )
