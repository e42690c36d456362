"""Clusters of parts: their centres, which of them are things, and the file they are kept in."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from slotseg.errors import CheckpointError
from slotseg.unsupervised.kmeans import nearest_center
from slotseg.weight_files import load_file

CLUSTERS_FILE = "clusters.pth"


@dataclass(frozen=True)
class ClusterSettings:
    """What clusters depend on. A file of other settings does not fit and is made again.

    Attributes:
        weights: SHA-256 of the model's weights.
        images: the training sets, and the sizes at which the model saw them, in words.
        options: of the clusters and of the model, as text.
        seed: of the random choices.
    """

    weights: str
    images: str
    options: str
    seed: int


@dataclass(frozen=True)
class Clusters:
    """Centres in the space of embeddings, every dimension scaled to unit variance.

    Attributes:
        centers: float32 ``[K, D]``.
        mean, deviation: float32 ``[D]``, of the embeddings that were clustered.
        is_thing: bool ``[K]``.
    """

    centers: Tensor
    mean: Tensor
    deviation: Tensor
    is_thing: Tensor

    def __len__(self) -> int:
        return len(self.centers)

    def of(self, embeddings: Tensor) -> Tensor:
        """The cluster of every embedding ``[P, D]``: int64 ``[P]``."""
        return nearest_center((embeddings - self.mean) / self.deviation, self.centers)[0]

    def to_state(self, settings: ClusterSettings) -> dict[str, Any]:
        """Tensors and plain values, as checkpoint files hold them."""
        return {"model": dict(vars(self)), "settings": asdict(settings)}

    @classmethod
    def load(cls, path: str, settings: ClusterSettings) -> Clusters | None:
        """Read a file of :meth:`to_state`; None: it was made with other settings.

        Raises:
            CheckpointError: the file is damaged, or holds something else.
        """
        state = load_file(path)
        found = state.get("settings")
        names = ("centers", "mean", "deviation", "is_thing")
        if not isinstance(found, dict) or any(name not in state["model"] for name in names):
            raise CheckpointError(f"{path}: holds no clusters; remove it, and they are found again")
        if found != asdict(settings):
            return None
        return cls(**{name: state["model"][name] for name in names})


def standardization(points: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of every dimension of ``[N, D]``; 1 for a dimension that is constant."""
    mean = points.double().mean(0)
    deviation = points.double().var(0, correction=0).sqrt()
    deviation = torch.where(deviation > 1e-6, deviation, 1.0)
    return mean.float(), deviation.float()
