"""Checkpoints that survive a kill at any moment and never execute code."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager
from torch import nn

from slotseg.engine import checkpoint_files as files
from slotseg.engine.checkpoint_classes import check_class_counts, leave_class_layers
from slotseg.engine.checkpoint_teacher import AUTO, check_whose, file_holds, take_weights
from slotseg.errors import CheckpointError
from slotseg.weight_files import load_file

BEST = "model_best"
FINAL = "model_final"
_LAST = "last_checkpoint"
_SHOWN_KEYS = 3

_logger = logging.getLogger(__name__)


class SlotSegCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer with safe files.

    Saving writes ``<name>.pth`` atomically and only then points ``last_checkpoint`` to it. Loading
    checks every byte, never executes code (unless ``trust_pickle``), and reports what does not fit
    the model as an error instead of training on with half of the weights.

    Args:
        model: module, or one wrapped for distributed training.
        save_dir: folder of the run; empty for loading only.
        trust_pickle: accept files that need Python's unpickler (``MODEL.TRUST_PICKLE``).
        save_to_disk: default: on the main process only.
        checkpointables: objects with ``state_dict`` and ``load_state_dict``.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        trust_pickle: bool = False,
        save_to_disk: bool | None = None,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.trust_pickle = trust_pickle

    def save(self, name: str, **extra: Any) -> None:
        """Save model, checkpointables and ``extra`` as ``<save_dir>/<name>.pth``, and make it the
        one that ``resume`` takes.

        Raises:
            CheckpointError: the disk is full, or a state holds something that could not be loaded.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        states = {key: item.state_dict() for key, item in self.checkpointables.items()}
        self._write(name, {**states, **extra})
        self.tag_last_checkpoint(f"{name}.pth")

    def save_weights(self, name: str, *, model: nn.Module | None = None, **extra: Any) -> None:
        """Save the model alone, for inference; ``resume`` does not look at it.

        Args:
            name: as in :meth:`save`.
            model: another one of the same architecture to save in its place, such as its teacher.
            extra: what else is to be in the file.
        """
        if self.save_dir and self.save_to_disk:
            self._write(name, extra, model)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Let ``resume`` take this file of ``save_dir`` from now on."""
        files.write_text(last_filename_basename, os.path.join(self.save_dir, _LAST))

    def has_checkpoint(self) -> bool:
        """Whether there is something to resume, readable or not."""
        return PathManager.exists(os.path.join(self.save_dir, _LAST)) or bool(
            files.periodic_files(self.save_dir)
        )

    def get_checkpoint_file(self) -> str:
        """The checkpoint to resume from: the one ``last_checkpoint`` names, or, if that file is
        gone, the newest periodic one. Empty if there is none.

        Raises:
            CheckpointError: a checkpoint is on record but none is there.
        """
        tag = os.path.join(self.save_dir, _LAST)
        named = ""
        if PathManager.isfile(tag):
            with PathManager.open(tag, "r") as file:
                named = file.read().strip()
            path = os.path.join(self.save_dir, named)
            if named and PathManager.isfile(path):
                return path
        periodic = files.periodic_files(self.save_dir)
        if periodic:
            newest = periodic[0][1]
            missing = f"{named} is missing" if named else f"{_LAST} names no checkpoint"
            _logger.warning(f"{tag}: {missing}; taking {os.path.basename(newest)} instead")
            return newest
        if PathManager.exists(tag):
            raise CheckpointError(
                f"{tag}: names {named or 'no checkpoint'}, which is not there, nor is any other "
                f"model_*.pth; put it back, or remove {_LAST} to start anew"
            )
        return ""

    def load(
        self,
        path: str,
        checkpointables: Iterable[str] | None = None,
        *,
        strict: bool = False,
        weights_of: str = AUTO,
    ) -> dict[str, Any]:
        """Load weights and, if asked, the other states.

        Args:
            path: file, URL or name that iopath knows; empty: nothing is loaded.
            checkpointables: names of the states to load; None: all of them, and all must be there.
            strict: weights must match key by key. Otherwise keys that only one side has are
                reported and left alone, as when a trained backbone goes into a new model.
            weights_of: "teacher", "student" or "auto", see ``TEST.WEIGHTS_OF``. Where all states
                are loaded the model's weights are always the student's, since the teacher is one
                of the states.

        Returns:
            What else is in the file.

        Raises:
            CheckpointError: see :func:`slotseg.weight_files.load_file`; different
                shapes, or numbers of classes; missing keys where they must be there; not one
                common key; no weights of the one that was asked for.
            ConfigError: nobody is called ``weights_of``.
        """
        if not path:
            _logger.info("No checkpoint given: the model starts from its initialisation")
            return {}
        _logger.info(f"Loading {path}")
        data = load_file(path, trust_pickle=self.trust_pickle)
        return self._apply(data, path, checkpointables, strict=strict, weights_of=weights_of)

    def resume(self) -> dict[str, Any]:
        """Load the last checkpoint with all states.

        Raises:
            CheckpointError: it is damaged; the message names the newest intact one.
        """
        path = self.get_checkpoint_file()
        _logger.info(f"Resuming from {path}")
        try:
            data = load_file(path, trust_pickle=self.trust_pickle)
        except CheckpointError as error:
            intact = files.newest_intact(self.save_dir, other_than=path)
            way_out = (
                f"remove it and --resume again to go on from {intact}, which is intact"
                if intact
                else "no other checkpoint is intact: choose another OUTPUT_DIR to start anew"
            )
            raise CheckpointError(f"{error}; {way_out}") from error
        return self._apply(data, path, None, strict=True)

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """:meth:`resume` if asked and possible, otherwise the weights in ``path``."""
        if resume and self.has_checkpoint():
            return self.resume()
        return self.load(path, checkpointables=[])

    def _write(self, name: str, states: Mapping[str, Any], model: nn.Module | None = None) -> None:
        path = os.path.join(self.save_dir, f"{name}.pth")
        data = {"model": (self.model if model is None else model).state_dict(), **states}
        PathManager.mkdirs(self.save_dir)
        files.save_file(files.plain(data), path)
        _logger.info(f"Saved {path}")

    def _apply(
        self,
        data: dict[str, Any],
        path: str,
        checkpointables: Iterable[str] | None,
        *,
        strict: bool,
        weights_of: str = AUTO,
    ) -> dict[str, Any]:
        if checkpointables is None:
            strict, weights = True, data.pop("model")
        else:
            weights = take_weights(data, weights_of, path)
        self._load_weights(weights, data, path, strict=strict)
        for key in self.checkpointables if checkpointables is None else checkpointables:
            if key not in data:
                raise CheckpointError(
                    f"{path}: holds no {key}, so training cannot go on from it; give it as "
                    "MODEL.WEIGHTS to start anew from its weights"
                )
            self._load_state(key, data.pop(key), path)
        return data

    def _load_state(self, key: str, state: Any, path: str) -> None:
        try:
            self.checkpointables[key].load_state_dict(state)
        except (KeyError, ValueError, RuntimeError, TypeError) as error:
            raise CheckpointError(
                f"{path}: its {key} does not fit this configuration ({str(error).splitlines()[0]})"
            ) from error

    def _load_weights(
        self, weights: dict[str, Any], data: dict[str, Any], path: str, *, strict: bool
    ) -> None:
        if not all(isinstance(key, str) for key in weights):
            raise CheckpointError(f"{path}: holds no state dict of a model")
        self._convert_ndarray_to_tensor(weights)
        if weights and all(key.startswith("module.") for key in weights):
            weights = {key.removeprefix("module."): value for key, value in weights.items()}
        own = self.model.state_dict()
        if data.pop("matching_heuristics", False):
            weights = align_and_update_state_dicts(
                own, weights, c2_conversion=data.get("__author__") == "Caffe2"
            )
        if not strict:
            weights = leave_class_layers(self.model, weights, path)
        check_class_counts(self.model, weights, path)
        self._compare(own, weights, path, strict=strict)
        self.model.load_state_dict(weights, strict=False)

    def _compare(
        self,
        own: Mapping[str, torch.Tensor],
        weights: Mapping[str, torch.Tensor],
        path: str,
        *,
        strict: bool,
    ) -> None:
        wrong = [
            f"{key} {list(weights[key].shape)} instead of {list(own[key].shape)}"
            for key in own
            if key in weights and weights[key].shape != own[key].shape
        ]
        if wrong:
            raise CheckpointError(
                f"{path}: is of another model: {_few(wrong, 'parameters')}; use the config that "
                "it was trained with"
            )
        # Normalisation constants come from the config, and old checkpoints lack them.
        missing = [k for k in own if k not in weights and k not in ("pixel_mean", "pixel_std")]
        unknown = [key for key in weights if key not in own]
        if len(missing) == len(own) or (strict and (missing or unknown)):
            problems = [
                f"{what} {_few(keys, 'keys')}"
                for what, keys in (("lacks", missing), ("has unknown", unknown))
                if keys
            ]
            raise CheckpointError(
                f"{path}: is of another model: it {' and '.join(problems)}; use the config that "
                "it was trained with"
            )
        if missing:
            _logger.warning(f"{path}: lacks {_few(missing, 'keys')}; these stay as initialised")
        if unknown:
            _logger.warning(f"{path}: has unknown {_few(unknown, 'keys')}; these are ignored")


def load_weights(
    model: nn.Module, path: str, *, trust_pickle: bool = False, weights_of: str = AUTO
) -> None:
    """Load a trained model for inference: every key must match.

    Args:
        model: its weights are replaced.
        path: see :meth:`SlotSegCheckpointer.load`.
        trust_pickle: ``MODEL.TRUST_PICKLE``.
        weights_of: ``TEST.WEIGHTS_OF``.

    Raises:
        CheckpointError: see :meth:`SlotSegCheckpointer.load`.
        ConfigError: nobody is called ``weights_of``.
    """
    checkpointer = SlotSegCheckpointer(model, trust_pickle=trust_pickle)
    checkpointer.load(path, [], strict=True, weights_of=weights_of)


def find_trained_weights(output_dir: str, weights_of: str = AUTO) -> str:
    """The checkpoint of a run to evaluate: the best one, or else the last.

    Args:
        output_dir: of the run.
        weights_of: ``TEST.WEIGHTS_OF``. A best checkpoint that does not hold these weights is
            passed over.

    Raises:
        CheckpointError: the folder holds none.
        ConfigError: nobody is called ``weights_of``.
    """
    check_whose(weights_of)
    best = os.path.join(output_dir, f"{BEST}.pth")
    if PathManager.isfile(best) and file_holds(best, weights_of):
        return best
    last = SlotSegCheckpointer(nn.Module(), output_dir).get_checkpoint_file()
    if not last:
        raise CheckpointError(
            f"{output_dir}: holds no checkpoint; set MODEL.WEIGHTS, or OUTPUT_DIR to a run's folder"
        )
    return last


def weights_for_inference(cfg: CfgNode) -> str:
    """``MODEL.WEIGHTS``, or the trained weights in ``OUTPUT_DIR``.

    Returns:
        The path of a checkpoint; empty where there is none and the model loads trained weights by
        itself (``MODEL.HUGGINGFACE.PRETRAINED``).

    Raises:
        CheckpointError: there are no weights at all.
        ConfigError: ``TEST.WEIGHTS_OF`` is unknown.
    """
    if cfg.MODEL.WEIGHTS:
        return cfg.MODEL.WEIGHTS
    try:
        return find_trained_weights(cfg.OUTPUT_DIR, cfg.TEST.WEIGHTS_OF)
    except CheckpointError:
        has_run = SlotSegCheckpointer(nn.Module(), cfg.OUTPUT_DIR).has_checkpoint()
        if cfg.MODEL.HUGGINGFACE.PRETRAINED and not has_run:
            return ""
        raise


def _few(items: list[str], what: str) -> str:
    shown = ", ".join(items[:_SHOWN_KEYS])
    more = len(items) - _SHOWN_KEYS
    return f"{len(items)} {what} ({shown}{f', and {more} more' if more > 0 else ''})"
