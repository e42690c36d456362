"""The teacher: a second model that follows the trained one."""

from __future__ import annotations

import logging
from collections.abc import Callable

from detectron2.config import CfgNode
from torch import Tensor, nn

from slotseg.engine.ema import WeightAverage, decay_at
from slotseg.engine.rng import forked_rng
from slotseg.errors import ConfigError

_logger = logging.getLogger(__name__)


class Teacher:
    """A model whose weights are the moving average of the student's (Tarvainen and Valpola 2017).

    Built like the student rather than copied from it, so that every model that can be trained can
    have one. Frozen weights are the student's own. It is in evaluation mode for good, and has no
    gradients. As part of a checkpoint it is a state dict like the model's, so that its weights can
    be taken for the model's; how many updates they have seen belongs to the hook.

    Args:
        model: of the student's architecture, whatever its weights; changed in place.
        student: the trained model itself, not one wrapped for several processes.
        decay, warm_up: ``MEAN_TEACHER.DECAY`` and ``WARM_UP``.

    Attributes:
        model: as it was given.
        updates: made so far; 0: equal to the student as it was when it was copied.
    """

    def __init__(self, model: nn.Module, student: nn.Module, decay: float, warm_up: float) -> None:
        self.model = model.eval().requires_grad_(False)
        self.decay = decay
        self.warm_up = warm_up
        self.updates = 0
        self._average = WeightAverage(self.model, student)
        self._average.copy()

    def copy_student(self) -> None:
        """Begin anew from the student's weights of now."""
        self._average.copy()
        self.updates = 0

    def update(self) -> float:
        """Follow the student by one step; the decay that was used."""
        decay = decay_at(self.updates, self.decay, self.warm_up)
        self._average.update(decay)
        self.updates += 1
        return decay

    def state_dict(self) -> dict[str, Tensor]:
        """Weights and buffers by the model's names."""
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The counterpart of :meth:`state_dict`.

        Raises:
            ValueError: they are another model's; one line.
        """
        own = self.model.state_dict()
        different = [
            name
            for name in sorted(own.keys() | state.keys())
            if name not in own or name not in state or own[name].shape != state[name].shape
        ]
        if different:
            more = f" and {len(different) - 1} more" if len(different) > 1 else ""
            raise ValueError(f"it is of another model: {different[0]}{more} differ")
        self.model.load_state_dict(state)


def build_teacher(
    cfg: CfgNode, student: nn.Module, build_model: Callable[[CfgNode], nn.Module]
) -> Teacher | None:
    """The teacher of ``student``, with its weights of now; None unless ``MEAN_TEACHER.ENABLED``.

    Args:
        cfg: ``MEAN_TEACHER``, and what ``build_model`` takes.
        student: built by ``build_model`` from the same config.
        build_model: its random numbers are drawn apart, so that training goes the same way with and
            without a teacher.

    Raises:
        ConfigError: a decay or a warm-up that makes no average.
    """
    node = cfg.MEAN_TEACHER
    if not node.ENABLED:
        return None
    if not 0.0 <= node.DECAY < 1.0:
        raise ConfigError(
            f"MEAN_TEACHER.DECAY: must be at least 0 and below 1, got {node.DECAY}; 0.999 is usual"
        )
    if node.WARM_UP < 0.0:
        raise ConfigError(
            f"MEAN_TEACHER.WARM_UP: must not be negative, got {node.WARM_UP}; 0 is no warm-up"
        )
    with forked_rng(max(cfg.SEED, 0)):
        model = build_model(cfg)
    teacher = Teacher(model, student, node.DECAY, node.WARM_UP)
    _logger.info(f"A teacher follows the student: decay {node.DECAY}, warm-up {node.WARM_UP}")
    return teacher
