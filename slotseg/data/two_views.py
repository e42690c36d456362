"""From an image without labels to what a teacher and its student see of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from fvcore.transforms.transform import PadTransform

from slotseg.data.augmentation import build_augmentations
from slotseg.data.colors import strong_augmentation
from slotseg.data.images import check_format, read_image
from slotseg.data.mapper import check_window
from slotseg.data.views import ViewSampler
from slotseg.errors import DatasetError


class TwoViewMapper:
    """Reads one image and makes the weak view and, of that, the strong view.

    All randomness is drawn from NumPy's global generator; the training loader seeds it for every
    sample.

    Args:
        weak: the geometry of the training chain.
        sampler: draws the student's window.
        strong: colours of the strong view.
        crop_window: (top, left, bottom, right) in pixels of the file, bottom and right exclusive,
            which is cut out first; None takes the whole image.
        image_format: "RGB", "BGR" or "L".

    Raises:
        ConfigError: one of these makes no sense.
    """

    def __init__(
        self,
        weak: Sequence[T.Augmentation],
        sampler: ViewSampler,
        strong: Sequence[T.Augmentation] = (),
        crop_window: tuple[int, int, int, int] | None = None,
        image_format: str = "RGB",
    ) -> None:
        check_format(image_format)
        self.weak = T.AugmentationList(list(weak))
        self.sampler = sampler
        self.strong = T.AugmentationList(list(strong))
        self.crop_window = check_window(crop_window) if crop_window else None
        self.image_format = image_format

    @classmethod
    def from_config(cls, cfg: CfgNode) -> TwoViewMapper:
        """The mapper that ``cfg.INPUT`` and ``cfg.SEMI`` describe."""
        return cls(
            build_augmentations(cfg, is_train=True, colors=False),
            ViewSampler.from_config(cfg),
            strong_augmentation(cfg),
            tuple(cfg.INPUT.CROP_WINDOW) or None,
            cfg.INPUT.FORMAT,
        )

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map one data set dict, of which only ``file_name`` and ``image_id`` are read.

        Returns:
            ``file_name``, ``image_id``;
            ``weak_image``: uint8 [3, h, w] ([1, h, w] for format "L"), the teacher's view;
            ``image``: uint8 [3, H, W], the student's;
            ``height``, ``width``: H and W in pixels;
            ``view``: a :class:`~slotseg.data.views.ViewRelation` that carries maps from the one to
            the other.

        Raises:
            DatasetError: the file is missing, damaged, or smaller than the crop window.
        """
        name = dataset_dict["file_name"]
        inputs = T.AugInput(self._read(name))
        applied = self.weak(inputs)
        weak = np.ascontiguousarray(inputs.image)
        view = self.sampler.draw(weak.shape[:2], _content(applied, weak.shape[:2]))
        inputs = T.AugInput(view.look(weak))
        self.strong(inputs)
        return {
            "file_name": name,
            "image_id": dataset_dict["image_id"],
            "height": view.size[0],
            "width": view.size[1],
            "image": _tensor(inputs.image),
            "weak_image": _tensor(weak),
            "view": view,
        }

    def _read(self, name: str) -> np.ndarray:
        image = read_image(name, self.image_format)
        if self.crop_window is None:
            return image
        top, left, bottom, right = self.crop_window
        height, width = image.shape[:2]
        if bottom > height or right > width:
            raise DatasetError(
                f"{name}: INPUT.CROP_WINDOW {self.crop_window} does not fit into the image's "
                f"{height}x{width} (height x width); unlabelled images must have the size of the "
                "labelled ones where there is a window"
            )
        # Pillow resizes only arrays that own their rows.
        return np.ascontiguousarray(image[top:bottom, left:right])


def _content(applied: T.TransformList, size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of what is not padding: the chain pads last, at the bottom and right."""
    last = applied.transforms[-1] if applied.transforms else None
    return (last.orig_h, last.orig_w) if isinstance(last, PadTransform) else (size[0], size[1])


def _tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C"))
