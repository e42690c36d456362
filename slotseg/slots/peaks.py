"""Slots that start at things."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from slotseg.classes import training_classes
from slotseg.errors import ConfigError
from slotseg.ops.peaks import highest_peaks
from slotseg.slots.build import SLOT_INITIALIZER_REGISTRY
from slotseg.slots.state import DenseGuess, InitialSlots
from slotseg.slots.tokens import Tokens

# The probability of a centre that an untrained map gives everywhere (Lin et al. 2017, "Focal Loss
# for Dense Object Detection", section 3.3): else the many pixels without one drown the few.
_PRIOR_LOGIT = -4.0
# Where the sigmoid of a logit is 0 or 1 in float32, the logit of that would not be finite.
_LEAST_SCORE = 1e-4
_LEAST_DOUBT = 1e-6


@SLOT_INITIALIZER_REGISTRY.register()
class PeakInitializer(nn.Module):
    """The first slots start at the peaks of a map of object centres, the others are learnt.

    A learnt vector has to find its object anew in every image, and which of many it is has to
    settle over thousands of steps of bipartite matching. A slot that starts on an object knows
    what it is about, and so does the matching: see ``LOSSES.MASKS`` on slots with a place. The map
    of centres ("objects as points", Zhou et al. 2019, but of all classes together) and one of
    classes come from one small convolution on a map of the backbone, which may be finer than the
    one that the slots group, so that small neighbours have peaks of their own. Both are trained by
    losses of their own, ``LOSSES.OBJECTNESS`` and ``LOSSES.CLASS_MAP``.

    A seed is a learnt projection of the token at the peak and of that convolution's features
    there, plus a learnt vector times the logit of the peak, which tells it how sure it may be. No
    gradient goes through the choice of peaks.

    Args:
        num_slots: all slots, K.
        num_peaks: the first of them that start at peaks, P.
        dim: length D of a slot.
        in_feature: name of the backbone's map.
        in_channels: its channels.
        channels: of the convolution.
        num_classes: classes of the class map, C.
        reinit_classes: whether checkpoints that start a training leave the class map's layer alone.

    Raises:
        ConfigError: more peaks than slots, or none; channels that do not fall into groups; a map
            that there is not.
    """

    # For checkpoints: the layer with one row a class; every pixel is of some class.
    class_layer = "classes"
    knows_no_object = False

    @configurable
    def __init__(
        self,
        *,
        num_slots: int,
        num_peaks: int,
        dim: int,
        in_feature: str,
        in_channels: int,
        channels: int,
        num_classes: int,
        reinit_classes: bool = False,
    ) -> None:
        super().__init__()
        if not 0 < num_peaks <= num_slots:
            raise ConfigError(
                f"MODEL.SLOTS.PEAKS.NUM is {num_peaks}; give 1 to MODEL.SLOTS.NUM_SLOTS = "
                f"{num_slots}"
            )
        groups = max(1, channels // 8)
        if channels < 1 or channels % groups:
            raise ConfigError(
                f"MODEL.SLOTS.PEAKS.CHANNELS is {channels}; give a multiple of 8, the channels of "
                "a group of its GroupNorm"
            )
        self.num_peaks = num_peaks
        self.in_feature = in_feature
        self.reinit_classes = reinit_classes
        self.tower = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            nn.GroupNorm(groups, channels),
            nn.ReLU(inplace=True),
        )
        self.objectness = nn.Conv2d(channels, 1, 1)
        nn.init.constant_(self.objectness.bias, _PRIOR_LOGIT)
        self.classes = nn.Conv2d(channels, num_classes, 1)
        self.project = nn.Sequential(
            nn.LayerNorm(channels + dim),
            nn.Linear(channels + dim, dim),
            nn.ReLU(inplace=True),
            nn.Linear(dim, dim),
        )
        self.sureness = nn.Parameter(0.05 * torch.randn(dim))
        self.queries = nn.Parameter(
            nn.init.xavier_uniform_(torch.empty(num_slots - num_peaks, dim))
            if num_slots > num_peaks
            else torch.empty(0, dim)
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, backbone_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Read ``MODEL.SLOTS`` and its node ``PEAKS``."""
        slots = cfg.MODEL.SLOTS
        if not cfg.MODEL.HEAD.NAME:
            raise ConfigError(
                "MODEL.SLOTS.INITIALIZER.NAME is PeakInitializer, which has to know things from "
                "stuff, but no slot has a class; set MODEL.HEAD.NAME to PanopticHead"
            )
        in_feature = slots.PEAKS.IN_FEATURE or slots.IN_FEATURE
        if in_feature not in backbone_shape:
            raise ConfigError(
                f"MODEL.SLOTS.PEAKS.IN_FEATURE: the backbone has no output {in_feature!r}; choose "
                f"from {', '.join(backbone_shape)}"
            )
        return {
            "num_slots": slots.NUM_SLOTS,
            "num_peaks": slots.PEAKS.NUM,
            "dim": slots.DIM,
            "in_feature": in_feature,
            "in_channels": backbone_shape[in_feature].channels,
            "channels": slots.PEAKS.CHANNELS,
            "num_classes": len(training_classes(cfg).is_thing),
            "reinit_classes": cfg.MODEL.HEAD.REINIT_CLASSES,
        }

    def forward(
        self, tokens: Tokens, features: Mapping[str, Tensor], images: Tensor
    ) -> InitialSlots:
        """Slots ``[B, K, D]`` for a batch of ``tokens``.

        Maps of fewer than P pixels give as many seeds as they have; the last of them is repeated.
        """
        seen = self.tower(features[self.in_feature])
        guess = DenseGuess(self.objectness(seen).squeeze(1).float(), self.classes(seen).float())
        scores = guess.objectness.detach().sigmoid().clamp_min(_LEAST_SCORE)
        batch, height, width = scores.shape
        available = min(self.num_peaks, height * width)
        score, index = highest_peaks(scores, available)
        if available < self.num_peaks:
            repeat = torch.arange(self.num_peaks, device=index.device).clamp_max(available - 1)
            score, index = score[:, repeat], index[:, repeat]
        row, column = torch.div(index, width, rounding_mode="floor"), index % width
        places = torch.stack([(row + 0.5) / height, (column + 0.5) / width], dim=2)
        at_peaks = [
            _rows_of(tokens.values, _pixel_at(places, tokens.grid)),
            _rows_of(seen.flatten(2).transpose(1, 2), index),
        ]
        seeds = self.project(torch.cat(at_peaks, dim=2)).float()
        seeds = seeds + score.logit(_LEAST_DOUBT).unsqueeze(2) * self.sureness
        queries = self.queries.expand(batch, -1, -1)
        nowhere = places.new_full((batch, queries.shape[1], 2), torch.nan)
        return InitialSlots(
            torch.cat([seeds, queries], dim=1),
            seeded=torch.full((batch,), self.num_peaks, device=seeds.device),
            places=torch.cat([places, nowhere], dim=1),
            guess=guess,
        )


def _pixel_at(places: Tensor, grid: tuple[int, int]) -> Tensor:
    """The flat index ``[B, P]`` of the pixel of a grid in which places ``[B, P, 2]`` lie."""
    row, column = (places * torch.tensor(grid, device=places.device)).long().unbind(2)
    return row * grid[1] + column


def _rows_of(table: Tensor, index: Tensor) -> Tensor:
    """``[B, P, C]`` of a table ``[B, N, C]``."""
    return table.gather(1, index.unsqueeze(2).expand(-1, -1, table.shape[2]))
