"""What ``tools/visualize_data.py`` does: training samples as the model sees them, drawn."""

from __future__ import annotations

import io
import itertools
import os
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from PIL import Image
from tqdm import tqdm

from slotseg.data import build_train_loader
from slotseg.errors import ConfigError, DatasetError
from slotseg.files import write_atomically
from slotseg.visualization import enlarge, enlargement
from slotseg.visualization.truth import draw_truth


def visualize_data(
    cfg: CfgNode,
    output: str,
    *,
    dataset: str | None = None,
    num: int = 16,
    seed: int | None = None,
    progress: bool = True,
) -> list[str]:
    """Draw the first samples of a training: same images, same augmentation.

    Args:
        cfg: of the training.
        output: folder of the pictures; made if it is not there.
        dataset: a registered set instead of ``DATASETS.TRAIN``.
        num: samples.
        seed: instead of ``cfg.SEED``.
        progress: show a bar.

    Returns:
        The files, ``<number of the sample>_<name of the image>.png`` each.

    Raises:
        ConfigError: ``num`` below 1, or a config that cannot work.
        DatasetError: a file of the set is missing or damaged, or a picture cannot be written.
    """
    if num < 1:
        raise ConfigError(f"{num} samples to draw, expected 1 or more")
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TRAIN = (dataset,) if dataset else cfg.DATASETS.TRAIN
    cfg.SEED = cfg.SEED if seed is None else seed
    # Sample number n is the same in batches of any size.
    cfg.SOLVER.IMS_PER_BATCH = 1
    cfg.DATALOADER.NUM_WORKERS = 0
    samples = itertools.chain.from_iterable(build_train_loader(cfg))
    bar = tqdm(
        itertools.islice(samples, num),
        total=num,
        desc="drawing",
        unit=" images",
        disable=None if progress else True,
    )
    files = []
    for number, sample in enumerate(bar):
        stem = os.path.splitext(os.path.basename(sample["file_name"]))[0]
        files.append(os.path.join(output, f"{number:04d}_{stem}.png"))
        _save(draw_sample(sample, cfg.INPUT.FORMAT, cfg.DATASETS.TRAIN[0]), files[-1])
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
