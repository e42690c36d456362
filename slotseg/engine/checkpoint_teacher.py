"""Checkpoints that hold a teacher besides the model: whose weights are taken.

A run with a teacher saves both: the student, which is trained, as ``model``, and the teacher as
``teacher``. A file of weights alone holds the better of them as ``model``, and says in
``weights_of`` whose they are.
"""

from __future__ import annotations

import logging
from typing import Any

from torch import Tensor

from slotseg.errors import CheckpointError, ConfigError
from slotseg.weight_files import load_file

TEACHER, STUDENT, AUTO = "teacher", "student", "auto"

_logger = logging.getLogger(__name__)


def take_weights(data: dict[str, Any], whose: str, path: str) -> dict[str, Tensor]:
    """Take the model's weights out of a checkpoint, and leave everything else in it.

    Args:
        data: of :func:`slotseg.weight_files.load_file`; loses ``model`` and ``teacher``.
        whose: ``TEST.WEIGHTS_OF``: "teacher", "student" or, for the teacher where there is one and
            else the only model that there is, "auto".
        path: of the checkpoint, for messages.

    Raises:
        CheckpointError: the file does not hold these weights.
        ConfigError: nobody of this name has weights.
    """
    check_whose(whose)
    if not holds(data, whose):
        raise CheckpointError(
            f"{path}: holds no teacher; it was saved without MEAN_TEACHER: take its weights with "
            "TEST.WEIGHTS_OF auto"
            if whose == TEACHER
            else f"{path}: holds the weights of the teacher alone; the checkpoints that training "
            "goes on from, such as model_final.pth, hold the student's too"
        )
    weights, teacher = data.pop("model"), data.pop(TEACHER, None)
    if teacher is None or whose == STUDENT:
        return weights
    _logger.info(f"{path}: these are the teacher's weights (TEST.WEIGHTS_OF {whose})")
    return teacher


def holds(data: dict[str, Any], whose: str) -> bool:
    """Whether a checkpoint has the weights that ``TEST.WEIGHTS_OF`` asks for."""
    held_as_model = data.get("weights_of", STUDENT)
    return whose in (AUTO, held_as_model) or (whose == TEACHER and TEACHER in data)


def file_holds(path: str, whose: str, *, trust_pickle: bool = False) -> bool:
    """:func:`holds` of a file.

    Raises:
        CheckpointError: see :func:`slotseg.weight_files.load_file`.
    """
    return whose == AUTO or holds(load_file(path, trust_pickle=trust_pickle), whose)


def check_whose(whose: str) -> None:
    """Refuse a ``TEST.WEIGHTS_OF`` that means nothing.

    Raises:
        ConfigError: with the values that it may have.
    """
    if whose not in (AUTO, TEACHER, STUDENT):
        raise ConfigError(
            f"TEST.WEIGHTS_OF: unknown {whose!r}; choose from {AUTO}, {TEACHER}, {STUDENT}"
        )
