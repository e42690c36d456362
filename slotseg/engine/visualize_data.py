"""What ``tools/visualize_data.py`` does: training samples as the model sees them, drawn."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from PIL import Image
from tqdm import tqdm

from slotseg.data import TrainingBatch, build_train_loader
from slotseg.data.mixing import build_mixing
from slotseg.errors import ConfigError, DatasetError
from slotseg.files import write_atomically
from slotseg.visualization import enlarge, enlargement
from slotseg.visualization.overlays import tile
from slotseg.visualization.truth import draw_truth

# Of both views of an image: their shorter side in pixels, and the student's window.
_VIEW_SIDE = 256
_FRAME = (255, 160, 0)


def visualize_data(
    cfg: CfgNode,
    output: str,
    *,
    dataset: str | None = None,
    num: int = 16,
    seed: int | None = None,
    iteration: int = 0,
    unlabeled: bool = False,
    progress: bool = True,
) -> list[str]:
    """Draw samples of a training by one process: same images, same augmentation.

    Labelled images are mixed as ``MIXING`` has it; of unlabelled ones both views are drawn.

    Args:
        cfg: of the training.
        output: folder of the pictures; made if it is not there.
        dataset: a registered set instead of ``DATASETS.TRAIN``.
        num: samples.
        seed: instead of ``cfg.SEED``.
        iteration: the one whose batch is drawn first, from 0.
        unlabeled: draw unlabelled images instead of labelled ones.
        progress: show a bar.

    Returns:
        The files, ``<number of the sample>_<name of the image>.png`` each.

    Raises:
        ConfigError: ``num`` below 1, ``iteration`` below 0, no unlabelled images where they are
            asked for, or a config that cannot work.
        DatasetError: a file of the set is missing or damaged, or a picture cannot be written.
    """
    if num < 1:
        raise ConfigError(f"{num} samples to draw, expected 1 or more")
    if iteration < 0:
        raise ConfigError(f"iteration {iteration} to begin with, expected 0 or more")
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TRAIN = (dataset,) if dataset else cfg.DATASETS.TRAIN
    cfg.SEED = cfg.SEED if seed is None else seed
    cfg.DATALOADER.NUM_WORKERS = 0
    if unlabeled:
        first, samples = iteration * cfg.SEMI.IMS_PER_BATCH, _unlabeled_samples(cfg, iteration)
    else:
        first, samples = iteration * cfg.SOLVER.IMS_PER_BATCH, _samples(cfg, iteration)
    bar = tqdm(
        itertools.islice(samples, num),
        total=num,
        desc="drawing",
        unit=" images",
        disable=None if progress else True,
    )
    files = []
    for number, sample in enumerate(bar, start=first):
        stem = os.path.splitext(os.path.basename(sample["file_name"]))[0]
        files.append(os.path.join(output, f"{number:04d}_{stem}.png"))
        if unlabeled:
            picture = draw_views(sample, cfg.INPUT.FORMAT)
        else:
            picture = draw_sample(sample, cfg.INPUT.FORMAT, cfg.DATASETS.TRAIN[0])
        _save(picture, files[-1])
    return files


def draw_sample(sample: dict[str, Any], image_format: str, dataset: str) -> np.ndarray:
    """One mapped dict as a picture.

    Args:
        sample: from any mapper of :mod:`slotseg.data.mappers`.
        image_format: channel order of its image, "RGB", "BGR" or "L".
        dataset: registered set whose classes it has.

    Returns:
        uint8 RGB; the image alone where it has no labels.
    """
    image = _rgb(sample["image"], image_format)
    if "segment_map" not in sample:
        return enlarge(image, enlargement(image.shape[:2]), smooth=True)
    segments = sample["segment_map"].numpy()
    is_object = sample["segment_is_object"].numpy()
    if "segment_category" not in sample:
        return draw_truth(image, segments, is_object, np.zeros_like(is_object))
    metadata = MetadataCatalog.get(dataset)
    things = list(metadata.thing_dataset_id_to_contiguous_id.values())
    categories = sample["segment_category"].numpy()
    return draw_truth(
        image,
        segments,
        np.isin(categories, things),
        sample["segment_is_crowd"].numpy(),
        categories=categories,
        metadata=metadata,
    )


def draw_views(sample: dict[str, Any], image_format: str) -> np.ndarray:
    """What a teacher and its student see of an image without labels.

    Args:
        sample: from :class:`slotseg.data.two_views.TwoViewMapper`.
        image_format: channel order of its images, "RGB", "BGR" or "L".

    Returns:
        uint8 RGB, three pictures of one size: the teacher's view with the student's window framed;
        that view carried onto the student's, as its segments are; and the student's view.
    """
    view = sample["view"]
    weak, strong = (_rgb(sample[key], image_format) for key in ("weak_image", "image"))
    carried = _rgb(view.carry(sample["weak_image"], 0), image_format)
    factor = enlargement(strong.shape[:2], _VIEW_SIDE)
    pictures = [enlarge(picture, factor, smooth=True) for picture in (weak, carried, strong)]
    corner, opposite = (
        (column * factor, row * factor)
        for row, column in (
            (view.top, view.left),
            (view.top + view.height, view.left + view.width),
        )
    )
    pictures[0] = cv2.rectangle(
        np.ascontiguousarray(pictures[0]), corner, opposite, _FRAME, thickness=2
    )
    if view.size != view.weak_size:
        size = pictures[2].shape[1::-1]
        pictures[0] = cv2.resize(pictures[0], size, interpolation=cv2.INTER_AREA)
    return tile(pictures, columns=1 if strong.shape[1] > strong.shape[0] else 3)


def _samples(cfg: CfgNode, first_iteration: int) -> Iterator[dict[str, Any]]:
    """The labelled images that a training sees, one after the other, without end."""
    mixing = build_mixing(cfg)
    # They are the same ones without the others, which need not be read.
    cfg.SEMI.IMS_PER_BATCH = 0
    batches = build_train_loader(cfg, first_iteration)
    for iteration, drawn in enumerate(batches, start=first_iteration):
        batch = TrainingBatch.of(drawn)
        yield from (mixing(batch, iteration) if mixing else batch).labeled


def _unlabeled_samples(cfg: CfgNode, first_iteration: int) -> Iterator[dict[str, Any]]:
    """The unlabelled images, likewise."""
    if cfg.SEMI.IMS_PER_BATCH < 1:
        raise ConfigError(
            "SEMI.IMS_PER_BATCH is 0, so this training has no unlabelled images to draw; raise it"
        )
    for drawn in build_train_loader(cfg, first_iteration):
        yield from TrainingBatch.of(drawn).unlabeled


def _rgb(image: torch.Tensor, image_format: str) -> np.ndarray:
    array = image.numpy().transpose(1, 2, 0)
    if image_format == "L":
        array = array.repeat(3, axis=2)
    return np.ascontiguousarray(array[:, :, ::-1] if image_format == "BGR" else array)


def _save(picture: np.ndarray, path: str) -> None:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    try:
        write_atomically(path, file.getvalue())
    except OSError as error:
        raise DatasetError(f"{path}: cannot be written ({error.strerror or error})") from error
