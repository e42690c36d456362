"""Slots that start on the parts into which an image's patches fall."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from slotseg.errors import ConfigError
from slotseg.ops.spectral_clustering import (
    cluster_rows,
    eigengap_counts,
    eigenvalue_counts,
    normalized_spectrum,
)
from slotseg.slots.build import SLOT_INITIALIZER_REGISTRY
from slotseg.slots.patch_graph import PatchGraph
from slotseg.slots.state import InitialSlots
from slotseg.slots.tokens import Tokens

_COUNTS = ("eigengap", "eigenvalues", "all")
# Eigenvectors of smaller eigenvalues are noise of single patches.
_NOISE_EIGENVALUE = 1e-3


@SLOT_INITIALIZER_REGISTRY.register()
class SpectralInitializer(nn.Module):
    """Seeds slots from normalised cuts of the patch graph, and pads with learnt queries.

    The leading eigenvectors of the graph's normalised Laplacian (Shi and Malik 2000; on features
    of vision transformers Melas-Kyriazi et al. 2022) say how many parts an image has and which
    patches form them (:mod:`slotseg.ops.spectral_clustering`).
    The eigenvectors themselves never become slots, since their signs and rotations are arbitrary:
    a seed is the mean of the *tokens* under the soft mask of its part, minus the mean of all
    tokens, normalised to mean 0 and variance 1. Without that difference all seeds would point
    towards the image's mean and be alike.

    The slots without a seed are learnt queries. All slots are where there is nothing to tell
    parts by: images of one colour (a vision transformer tells their patches apart all the same, by
    place) or without an eigengap, and maps of a single patch. Of a map of N patches there are at
    most N - 1 seeds.

    Masks and eigenvectors carry no gradient; seeds hand it on to the tokens. Everything runs in
    float32 also under autocast. In training each seed is shaken by Gaussian noise from PyTorch's
    global generator, whose deviation is learnt per channel; inference has no randomness.

    Args:
        feature: name of the backbone's map whose pixels are the patches.
        num_slots: K.
        dim: length D of slots and tokens.
        graph: feature map and images to affinities.
        count: how many seeds: "eigengap", as many as there are eigenvalues in front of the largest
            gap; "eigenvalues", as many as there are from ``min_eigenvalue`` on; "all", K.
        min_gap: of "eigengap": smaller differences of two eigenvalues are no gap.
        min_eigenvalue: of "eigenvalues", in (0, 1].
        min_seeds: fewer parts than this are no parts; 2 to K.
        softness: temperature of the masks' softmax over cosine similarities; 0: hard masks.
        noise: deviation of the noise at the start of training, seeds having 1; 0: no noise.

    Raises:
        ConfigError: a value that is not one of these.
    """

    @configurable
    def __init__(
        self,
        *,
        feature: str,
        num_slots: int,
        dim: int,
        graph: PatchGraph,
        count: str,
        min_gap: float,
        min_eigenvalue: float,
        min_seeds: int,
        softness: float,
        noise: float,
    ) -> None:
        super().__init__()
        if count not in _COUNTS:
            raise ConfigError(
                f"MODEL.SLOTS.SPECTRAL.COUNT: {count!r} is not known; choose from "
                f"{', '.join(_COUNTS)}"
            )
        if not 0.0 < min_eigenvalue <= 1.0:
            raise ConfigError(
                f"MODEL.SLOTS.SPECTRAL.MIN_EIGENVALUE is {min_eigenvalue}; give a number in (0, 1]"
            )
        for key, value, lowest in (
            ("MIN_SEEDS", min_seeds, 2),
            ("MIN_GAP", min_gap, 0.0),
            ("SOFTNESS", softness, 0.0),
            ("NOISE", noise, 0.0),
        ):
            if not value >= lowest:
                raise ConfigError(f"MODEL.SLOTS.SPECTRAL.{key} is {value}; give at least {lowest}")
        if min_seeds > num_slots:
            raise ConfigError(
                f"MODEL.SLOTS.SPECTRAL.MIN_SEEDS is {min_seeds}, so that none of the {num_slots} "
                "MODEL.SLOTS.NUM_SLOTS could ever be a seed; lower it or take more slots"
            )
        self.feature = feature
        self.num_slots = num_slots
        self.graph = graph
        self.count = count
        self.min_gap = min_gap
        self.min_eigenvalue = min_eigenvalue
        self.min_seeds = min_seeds
        self.softness = softness
        self.norm = nn.LayerNorm(dim)
        # Of the seeds' length, so that the grouping meets one scale.
        self.queries = nn.Parameter(_distinct_queries(num_slots, dim))
        self.log_noise = nn.Parameter(torch.full((dim,), math.log(noise))) if noise > 0 else None

    @classmethod
    def from_config(cls, cfg: CfgNode, backbone_shape: dict[str, ShapeSpec]) -> dict:
        """Read ``MODEL.SLOTS`` and ``MODEL.SLOTS.SPECTRAL``."""
        slots = cfg.MODEL.SLOTS
        options = slots.SPECTRAL
        feature = options.FEATURE or slots.IN_FEATURE
        if feature not in backbone_shape:
            raise ConfigError(
                f"MODEL.SLOTS.SPECTRAL.FEATURE: the backbone has no output {feature!r}; choose "
                f"from {', '.join(backbone_shape)}"
            )
        return {
            "feature": feature,
            "num_slots": slots.NUM_SLOTS,
            "dim": slots.DIM,
            "graph": PatchGraph.from_config(cfg),
            "count": options.COUNT,
            "min_gap": options.MIN_GAP,
            "min_eigenvalue": options.MIN_EIGENVALUE,
            "min_seeds": options.MIN_SEEDS,
            "softness": options.SOFTNESS,
            "noise": options.NOISE,
        }

    def forward(
        self, tokens: Tokens, features: Mapping[str, Tensor], images: Tensor
    ) -> InitialSlots:
        """Slots ``[B, K, D]``, of which the first ``seeded`` ``[B]`` come from the image."""
        with torch.autocast(tokens.values.device.type, enabled=False):
            masks, counts = self.parts(features[self.feature], images)
            masks = F.interpolate(masks, tokens.grid, mode="bilinear", align_corners=False)
            seeds = self._seeds(masks.flatten(2), tokens.values.float())
            is_seed = torch.arange(self.num_slots, device=counts.device) < counts.unsqueeze(1)
            slots = torch.where(is_seed.unsqueeze(-1), seeds, self.queries)
        return InitialSlots(slots, counts)

    @torch.no_grad()
    def parts(self, features: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """The parts of every image.

        Args:
            features: ``[B, C, h, w]``, the map named ``feature``.
            images: ``[B, 3, H, W]``, normalised.

        Returns:
            Masks ``[B, K, h', w']`` float32 on the grid of the patches, in which the parts of an
            image sum to 1, or to 0 where it has none; and the numbers of parts ``[B]`` int64.
        """
        affinity, grid = self.graph(features, images)
        most = min(self.num_slots, affinity.shape[1] - 1)
        if most < self.min_seeds:
            none = affinity.new_zeros(len(affinity), self.num_slots, *grid)
            return none, torch.zeros(len(affinity), dtype=torch.int64, device=affinity.device)
        # One eigenvalue more than there may be parts: the last gap lies behind them.
        values, vectors = normalized_spectrum(affinity, most + 1)
        counts = self._count(values, most).masked_fill(_of_one_color(images), 0)
        similarity = cluster_rows(vectors[..., :most], counts)
        masks = F.pad(self._soften(similarity), (0, 0, 0, self.num_slots - most))
        return masks.unflatten(2, grid), counts

    def _count(self, values: Tensor, most: int) -> Tensor:
        if self.count == "eigengap":
            return eigengap_counts(values, self.min_seeds, most, self.min_gap)
        lowest = self.min_eigenvalue if self.count == "eigenvalues" else _NOISE_EIGENVALUE
        return eigenvalue_counts(values, self.min_seeds, most, lowest)

    def _soften(self, similarity: Tensor) -> Tensor:
        """Cosines ``[B, M, N]``, -inf for no part, to masks."""
        if self.softness > 0:
            masks = (similarity / self.softness).softmax(dim=1)
        else:
            masks = F.one_hot(similarity.argmax(dim=1), similarity.shape[1]).mT.float()
        # Without any part the softmax is undefined and the winner means nothing.
        return masks.masked_fill(similarity == -torch.inf, 0.0)

    def _seeds(self, masks: Tensor, tokens: Tensor) -> Tensor:
        """``[B, K, D]`` from masks ``[B, K, N]`` and tokens ``[B, N, D]``."""
        weights = masks / masks.sum(dim=2, keepdim=True).clamp_min(torch.finfo(masks.dtype).eps)
        seeds = self.norm(weights @ (tokens - tokens.mean(dim=1, keepdim=True)))
        if self.training and self.log_noise is not None:
            seeds = seeds + torch.randn_like(seeds) * self.log_noise.exp()
        return seeds


def _of_one_color(images: Tensor) -> Tensor:
    """Which of the images ``[B, 3, H, W]`` are the same everywhere, ``[B]`` bool."""
    lowest, highest = torch.aminmax(images.flatten(2), dim=2)
    # Resizing may round a single colour to neighbouring numbers.
    return torch.isclose(lowest, highest).all(dim=1)


def _distinct_queries(num_slots: int, dim: int) -> Tensor:
    """``[num_slots, dim]`` with entries of variance 1, orthogonal where there is room for it."""
    if num_slots > dim:
        return torch.randn(num_slots, dim)
    return nn.init.orthogonal_(torch.empty(num_slots, dim)) * math.sqrt(dim)
