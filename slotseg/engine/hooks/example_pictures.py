"""Show in TensorBoard what the model makes of a few images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.engine.train_loop import HookBase
from detectron2.utils import comm

from slotseg.decoders import drawing
from slotseg.engine.hooks.schedule import is_due
from slotseg.engine.inference import inference_mode
from slotseg.engine.pictures import picture_row
from slotseg.engine.rng import forked_rng
from slotseg.visualization.overlays import tile

# Longest side of a picture, in pixels.
_SIDE = 512
_SHRINK = cv2.INTER_AREA


class ExamplePictures(HookBase):
    """Draws the first images of the first test set (lacking one, of the training set) every
    ``period`` iterations and at the end: image, segments, and what the decoders reconstruct.

    One picture, ``examples/<what is in its columns>``, with a row for every image. Decoders that
    draw only on request do so here. Randomness comes from a generator of its own.

    Args:
        cfg: ``PICTURES``, and where the images come from.
        period: iterations.
    """

    def __init__(self, cfg: CfgNode, period: int) -> None:
        self._cfg = cfg
        self._period = period
        self._batches: list[list[dict[str, Any]]] | None = None
        self._enabled = comm.is_main_process() and cfg.PICTURES.IMAGES > 0

    def after_step(self) -> None:
        if not self._enabled or not is_due(self.trainer.iter, self._period, self.trainer.max_iter):
            return
        rows = self._draw()
        if rows:
            self.trainer.storage.put_image(
                f"examples/{', '.join(rows[0])}", picture_sheet(rows).transpose(2, 0, 1).copy()
            )

    def _draw(self) -> list[dict[str, np.ndarray]]:
        cfg = self._cfg
        metadata = MetadataCatalog.get(self._dataset)
        classes = metadata if metadata.get("stuff_classes") else None
        model = self.trainer.plain_model
        with forked_rng(max(cfg.SEED, 0)), inference_mode(model), drawing(model):
            if self._batches is None:
                self._batches = self._load()
            return [
                picture_row(item, output, cfg.INPUT.FORMAT, classes)
                for batch in self._batches
                for item, output in zip(batch, model(batch), strict=True)
            ]

    @property
    def _dataset(self) -> str:
        return (self._cfg.DATASETS.TEST or self._cfg.DATASETS.TRAIN)[0]

    def _load(self) -> list[list[dict[str, Any]]]:
        wanted = self._cfg.PICTURES.IMAGES
        batches: list[list[dict[str, Any]]] = []
        for batch in self.trainer.build_probe_loader(self._cfg, self._dataset):
            batches.append(list(batch)[:wanted])
            wanted -= len(batches[-1])
            if wanted <= 0:
                break
        return batches


def picture_sheet(rows: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
    """Rows of pictures on one sheet; images of other shapes are fitted to the first one's.

    Args:
        rows: pictures by what they are, the same in every row: uint8 RGB ``[H, W, 3]``.

    Returns:
        uint8 RGB ``[H, W, 3]``.
    """
    labels = list(rows[0])
    height, width = rows[0][labels[0]].shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    pictures = [row[label] for row in rows for label in labels]
    return tile(
        [
            p if p.shape[1::-1] == size else cv2.resize(p, size, interpolation=_SHRINK)
            for p in pictures
        ],
        len(labels),
    )
