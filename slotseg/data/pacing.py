"""How many of the images, easiest first, a curriculum has let in by some iteration."""

from __future__ import annotations

import math
from dataclasses import dataclass

from detectron2.config import CfgNode

from slotseg.errors import ConfigError

KINDS = ("linear", "root", "step")


@dataclass(frozen=True)
class Pacing:
    """The share of the images that are in, as a function of the iteration.

    With ``p`` the part of ``end`` that has passed and ``s`` the share at the start it is

    * ``"linear"``: ``s + (1 - s) p``;
    * ``"root"``: ``sqrt(s^2 + (1 - s^2) p)``. The more images are in, the longer a round through
      them, and the slower new ones come: as many in every round (Platanios et al.,
      *Competence-based Curriculum Learning*, 2019, equation 7);
    * ``"step"``: ``s + (1 - s) floor(steps p) / steps``, the stages of Bengio et al.,
      *Curriculum Learning*, 2009.

    Args:
        kind: one of the above.
        start_share: ``s``, above 0 and at most 1.
        end: the iteration from which all images are in; 0: from the start.
        steps: of "step", at least 1.

    Raises:
        ConfigError: a value out of its range.
    """

    kind: str
    start_share: float
    end: int
    steps: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(
                f"CURRICULUM.PACING: {self.kind!r} is unknown; choose from {', '.join(KINDS)}"
            )
        if not 0.0 < self.start_share <= 1.0:
            raise ConfigError(
                f"CURRICULUM.START_SHARE is {self.start_share}, it must be above 0 and at most 1"
            )
        if self.steps < 1:
            raise ConfigError(f"CURRICULUM.STEPS is {self.steps}, it must be at least 1")

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Pacing:
        """Read ``CURRICULUM``.

        Raises:
            ConfigError: see the class; or images that would never be drawn.
        """
        node = cfg.CURRICULUM
        if node.END_ITER < 0 or node.END_ITER > cfg.SOLVER.MAX_ITER:
            raise ConfigError(
                f"CURRICULUM.END_ITER is {node.END_ITER}, it must be from 0 to SOLVER.MAX_ITER, "
                f"{cfg.SOLVER.MAX_ITER}, or the hardest images are never drawn"
            )
        if not 0.0 <= node.END <= 1.0:
            raise ConfigError(
                f"CURRICULUM.END is {node.END}, a share of SOLVER.MAX_ITER from 0 to 1; iterations "
                "go into CURRICULUM.END_ITER"
            )
        end = node.END_ITER or round(node.END * cfg.SOLVER.MAX_ITER)
        return cls(node.PACING, node.START_SHARE, end, node.STEPS)

    def share(self, iteration: int) -> float:
        """The share of the images that are in at ``iteration``, from ``start_share`` to 1."""
        if iteration >= self.end:
            return 1.0
        passed, start = iteration / self.end, self.start_share
        if self.kind == "root":
            return math.sqrt(start**2 + (1.0 - start**2) * passed)
        if self.kind == "step":
            passed = self.steps * iteration // self.end / self.steps
        return start + (1.0 - start) * passed

    def num_images(self, iteration: int, total: int) -> int:
        """How many of ``total`` images that is, rounded up and at least one."""
        # Products such as 0.07 * 100 lie a little above the whole number that they mean.
        return min(total, max(1, math.ceil(self.share(iteration) * total - 1e-9)))
