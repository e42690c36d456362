"""A model's own loss on every training image, one by one: which images it finds difficult."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from slotseg.data import build_survey_loader, hardest, training_images
from slotseg.data.difficulty import ImageDifficulty
from slotseg.engine.precision import build_autocast
from slotseg.engine.rng import forked_rng


def measure_image_losses(
    cfg: CfgNode,
    model: nn.Module,
    iteration: int | None = None,
    loader: Iterable[list[dict[str, Any]]] | None = None,
) -> np.ndarray:
    """The sum of the weighted training losses on every training image, without gradients.

    Images are seen one by one and unaugmented, under the autocast of the training and with the
    same random numbers for each, so that the losses of two images differ by the images alone.
    Neither the model, its buffers included, nor any random generator is other than before. It
    takes about as long as evaluating the model on its training set with batches of one.

    Args:
        cfg: of the training.
        model: not wrapped for distributed training; on each process the same.
        iteration: of the training, for losses that change with it; None: outside of one.
        loader: batches of one image; by default :func:`slotseg.data.build_survey_loader`. Every
            process has its own part.

    Returns:
        float64 ``[N]`` in the order of :func:`slotseg.data.training_images`, of the images of all
        processes, on each of them; infinite where a loss is not finite.

    Raises:
        ConfigError, DatasetError: see the loader.
    """
    seed = max(cfg.SEED, 0)
    autocast = build_autocast(cfg, next(model.parameters()).device)
    with forked_rng(seed), _as_in_training(model), _unseen_storage(iteration):
        batches = build_survey_loader(cfg) if loader is None else loader
        bar = tqdm(
            batches,
            desc="losses of the training images",
            unit="image",
            leave=False,
            dynamic_ncols=True,
            # None: only on a terminal.
            disable=None if comm.is_main_process() else True,
        )
        own = [_loss_of(model, batch, autocast, seed) for batch in bar]
    return np.array([loss for part in comm.all_gather(own) for loss in part], np.float64)


def hardest_by_loss(
    cfg: CfgNode, model: nn.Module, count: int | None = None
) -> list[ImageDifficulty]:
    """The training images on which a trained model has the highest loss, the highest first.

    Besides what is really difficult these tend to be the wrongly labelled ones.

    Args:
        cfg, model: see :func:`measure_image_losses`.
        count: how many; None: all.
    """
    return hardest(training_images(cfg), measure_image_losses(cfg, model), count)


def _loss_of(
    model: nn.Module,
    batch: list[dict[str, Any]],
    autocast: Callable[[], AbstractContextManager],
    seed: int,
) -> float:
    with forked_rng(seed), autocast():
        loss = float(sum(model(batch).values()))
    return loss if math.isfinite(loss) else math.inf


@contextmanager
def _as_in_training(model: nn.Module) -> Iterator[None]:
    """The model gives losses but learns nothing from what it is shown.

    Batch norms stay as in evaluation: a single image has no statistics.
    """
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    model.train()
    for module, _ in modes:
        if isinstance(module, _BatchNorm):
            module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        for module, training in modes:
            module.training = training


def _unseen_storage(iteration: int | None) -> AbstractContextManager:
    """What losses log goes nowhere; those that ask for the iteration are told."""
    return nullcontext() if iteration is None else EventStorage(iteration)
