"""Images cut into parts, each with an embedding: what is clustered.

Slots are the parts of a slot model. The two other kinds are what a slot model has to beat under the
same protocol: pixels by colour and place, and patches by the features of the encoder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import Tensor, nn

from slotseg.errors import ConfigError


@dataclass(frozen=True)
class Parts:
    """The parts of one image.

    Attributes:
        ids: int64 ``[H, W]``, the part of every pixel, -1 for none.
        embeddings: float32 ``[P, D]``.
    """

    ids: Tensor
    embeddings: Tensor


class PartFinder(ABC):
    """Cuts images into parts.

    Attributes:
        are_instances: whether two touching parts of one cluster are two instances; otherwise a
            connected region of a cluster is one.
    """

    are_instances: bool

    @abstractmethod
    def __call__(self, batch: list[dict[str, Any]]) -> list[Parts]:
        """Parts of every image, on the CPU, at its ``height`` and ``width``.

        Args:
            batch: the mapper's dicts.
        """


class SlotParts(PartFinder):
    """The segments of a slot model without a head: every slot is a part.

    Args:
        model: in evaluation mode; gives ``panoptic_seg`` with ``slot`` in its segments, ``slots``,
            ``slot_masks`` and ``attention``.
        embedding: "slot", the slot's vector; "features", the mean of a map of the backbone under
            the slot's soft mask.
        feature: name of that map.
        source: whose masks share out the image: "decoder" or "attention".

    Raises:
        ConfigError: unknown ``embedding`` or ``source``.
    """

    are_instances = True

    def __init__(
        self,
        model: nn.Module,
        embedding: str = "slot",
        feature: str = "",
        source: str = "decoder",
    ) -> None:
        if embedding not in ("slot", "features"):
            raise ConfigError(f"UNSUPERVISED.EMBEDDING is {embedding!r}, choose slot or features")
        if source not in ("decoder", "attention"):
            raise ConfigError(
                f"TEST.MASK_SOURCE is {source!r}, but without labels the masks of slots are "
                "clustered; choose decoder or attention"
            )
        self.model = model
        self.embedding = embedding
        self.feature = feature
        self.source = source

    def __call__(self, batch: list[dict[str, Any]]) -> list[Parts]:
        """See the base class.

        Raises:
            ConfigError: the model's segments are not its slots.
        """
        with _recorded_maps(self.model, self.feature) as maps:
            outputs = self.model(batch)
        parts = []
        for number, (item, output) in enumerate(zip(batch, outputs, strict=True)):
            slots, ids = self._shared_out(output, _size(item))
            if self.embedding == "slot":
                embeddings = output["slots"].cpu()[slots]
            else:
                masks = output["slot_masks" if self.source == "decoder" else "attention"]
                masks = masks.float()[slots.to(masks.device)]
                embeddings = pooled(maps[0][number].float(), masks).cpu()
            parts.append(Parts(ids, embeddings.float()))
        return parts

    def _shared_out(self, output: dict[str, Any], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The slots that win a pixel ``[P]``, and for every pixel which of them did ``[H, W]``."""
        if self.source == "attention":
            attention = output["attention"].float()[None]
            masks = F.interpolate(attention, size, mode="bilinear", align_corners=False)
            return masks[0].argmax(0).cpu().unique(return_inverse=True)
        ids, segments = output["panoptic_seg"]
        if any("slot" not in segment for segment in segments):
            raise ConfigError(
                "UNSUPERVISED.PARTS: slots are clustered where they have no class; leave "
                "MODEL.HEAD.NAME empty"
            )
        slots = torch.tensor([segment["slot"] for segment in segments], dtype=torch.int64)
        # From the segments' ids to the rows of the embeddings.
        row = torch.full((max((s["id"] for s in segments), default=0) + 1,), -1)
        row[[segment["id"] for segment in segments]] = torch.arange(len(segments))
        return slots, row[ids.cpu().long()]


class FeatureParts(PartFinder):
    """Every pixel of a map of the backbone is a part; the slots do not matter.

    Args:
        model: in evaluation mode, with a ``backbone``.
        feature: name of the map.
    """

    are_instances = False

    def __init__(self, model: nn.Module, feature: str) -> None:
        self.model = model
        self.feature = feature

    def __call__(self, batch: list[dict[str, Any]]) -> list[Parts]:
        """See the base class."""
        with _recorded_maps(self.model, self.feature) as maps:
            self.model(batch)
        return [
            _pixels_as_parts(values.float().cpu(), _size(item))
            for values, item in zip(maps[0], batch, strict=True)
        ]


class ColorParts(PartFinder):
    """Every pixel of the model's input is a part: three colours in 0..1, and y and x in 0..1."""

    are_instances = False

    def __call__(self, batch: list[dict[str, Any]]) -> list[Parts]:
        """See the base class."""
        parts = []
        for item in batch:
            image = item["image"].float() / 255
            height, width = image.shape[1:]
            y = torch.linspace(0, 1, height)[:, None].expand(height, width)
            x = torch.linspace(0, 1, width)[None].expand(height, width)
            parts.append(_pixels_as_parts(torch.cat([image, y[None], x[None]]), _size(item)))
        return parts


def pooled(values: Tensor, masks: Tensor) -> Tensor:
    """Means of a map under soft masks.

    Args:
        values: ``[C, h, w]``.
        masks: ``[P, h', w']``, 0 or more; brought to the size of the map.

    Returns:
        ``[P, C]``; 0 under an empty mask.
    """
    if not len(masks):
        return values.new_zeros(0, len(values))
    weights = F.interpolate(masks[None], values.shape[-2:], mode="area")[0].flatten(1)
    return weights @ values.flatten(1).T / weights.sum(1, keepdim=True).clamp_min(1e-6)


# UNSUPERVISED.PARTS -> (config, model, name of a map) -> finder
PART_FINDERS: dict[str, Callable[[CfgNode, nn.Module, str], PartFinder]] = {
    "slots": lambda cfg, model, feature: SlotParts(
        model, cfg.UNSUPERVISED.EMBEDDING, feature, cfg.TEST.MASK_SOURCE
    ),
    "features": lambda cfg, model, feature: FeatureParts(model, feature),
    "colors": lambda cfg, model, feature: ColorParts(),
}


def build_part_finder(cfg: CfgNode, model: nn.Module) -> PartFinder:
    """The parts that ``UNSUPERVISED.PARTS`` names.

    Raises:
        ConfigError: it is unknown, or the backbone has no map ``UNSUPERVISED.FEATURE``.
    """
    node = cfg.UNSUPERVISED
    if node.PARTS not in PART_FINDERS:
        raise ConfigError(
            f"UNSUPERVISED.PARTS is {node.PARTS!r}, choose from {', '.join(PART_FINDERS)}"
        )
    feature = node.FEATURE or cfg.MODEL.SLOTS.IN_FEATURE
    backbone = getattr(model, "backbone", None)
    known = backbone.output_shape() if backbone is not None else {}
    if node.PARTS != "colors" and feature not in known:
        raise ConfigError(
            f"UNSUPERVISED.FEATURE: the backbone has no output {feature!r}; choose from "
            f"{', '.join(known) or 'those of a model with a backbone'}"
        )
    return PART_FINDERS[node.PARTS](cfg, model, feature)


@contextmanager
def _recorded_maps(model: nn.Module, feature: str) -> Iterator[list[Tensor]]:
    """A list that the backbone's map ``[B, C, h, w]`` is put into when the model runs.

    Features are no part of a model's output, and the way through the model differs with the loader
    (a frozen ViT whose maps are read from disk does not run).
    """
    maps: list[Tensor] = []
    backbone = getattr(model, "backbone", None)
    if backbone is None or not feature:
        yield maps
        return
    hook = backbone.register_forward_hook(lambda _, __, out: maps.append(out[feature].detach()))
    try:
        yield maps
    finally:
        hook.remove()


def _pixels_as_parts(values: Tensor, size: tuple[int, int]) -> Parts:
    """Every pixel of ``[C, h, w]``, spread over an image of ``size`` by nearest neighbour."""
    height, width = values.shape[-2:]
    rows = (torch.arange(size[0]) * height) // size[0]
    columns = (torch.arange(size[1]) * width) // size[1]
    return Parts(rows[:, None] * width + columns[None], values.flatten(1).T.contiguous())


def _size(item: dict[str, Any]) -> tuple[int, int]:
    """Of the wanted output."""
    height, width = item["image"].shape[1:]
    return int(item.get("height", height)), int(item.get("width", width))
