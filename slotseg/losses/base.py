"""What most losses have in common: a weight in the config, and a name that it goes by."""

from __future__ import annotations

from typing import Any, ClassVar

from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from slotseg.losses.step import TrainingStep
from slotseg.losses.views import ViewSpec


class WeightedLoss(nn.Module):
    """A loss that reads its weight from a node of ``LOSSES`` and returns it multiplied in.

    A subclass names its node and writes ``forward``; one with more options adds them to
    ``from_config``. The loss is logged as "loss_" and the node's name in lower case.

    Args:
        weight: factor of the loss.

    Attributes:
        node: the loss's key in ``LOSSES``.
        views: other views of the images that the loss wants to find in ``step.views``.
        needs_earlier: whether it wants the predictions after earlier iterations, ``step.earlier``.
    """

    node: ClassVar[str]
    views: tuple[ViewSpec, ...] = ()
    needs_earlier: bool = False

    @configurable
    def __init__(self, *, weight: float) -> None:
        super().__init__()
        self.weight = weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read ``WEIGHT`` of the loss's node."""
        return {"weight": cfg.LOSSES[cls.node].WEIGHT}

    @property
    def names(self) -> tuple[str, ...]:
        """The names under which ``forward`` returns scalars."""
        return (f"loss_{self.node.lower()}",)

    def weighted(self, value: Tensor) -> dict[str, Tensor]:
        """The one scalar of most losses, times the weight, under its name."""
        return {self.names[0]: self.weight * value}

    def forward(self, step: TrainingStep) -> dict[str, Tensor]:
        """Weighted scalars by name."""
        raise NotImplementedError
