"""From a scene's data set dict to what the model takes: read, crop, resize, colours, flip."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T

from slotseg.data.augmentation import check_size, flip_augmentation
from slotseg.data.colors import color_augmentation
from slotseg.data.images import check_format, read_image, read_mask
from slotseg.data.scene_folder import VOID
from slotseg.errors import ConfigError, DatasetError

# Mask file's value -> segment index.
_SEGMENT_OF_VALUE = np.arange(256, dtype=np.int64)
_SEGMENT_OF_VALUE[VOID] = -1


class SceneMapper:
    """Reads one scene and its mask, and brings both to the model's size.

    The image is resized bilinearly with antialiasing (Pillow's way), the mask by nearest
    neighbour. All randomness (flip and colours) is drawn from NumPy's global generator as in all
    of Detectron2's augmentations; the training loader seeds it for every sample.

    Args:
        is_train: whether to change colours and flip at random.
        crop_window: (top, left, bottom, right) in pixels of the file, bottom and right exclusive;
            None takes the whole image.
        image_size: (height, width) in pixels of the result.
        random_flip: "horizontal" or "none".
        color: augmentations of the image's colours.
        image_format: "RGB", "BGR" or "L".

    Raises:
        ConfigError: one of these makes no sense.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        crop_window: tuple[int, int, int, int] | None = None,
        image_size: tuple[int, int],
        random_flip: str = "none",
        color: Sequence[T.Augmentation] = (),
        image_format: str = "RGB",
    ) -> None:
        check_format(image_format)
        self.is_train = is_train
        self.image_format = image_format
        self.crop_window = check_window(crop_window) if crop_window else None
        random = [*color, *flip_augmentation(random_flip)]
        self.augmentations = T.AugmentationList(
            [T.Resize(check_size(image_size)), *(random if is_train else [])]
        )
        self._seen: Counter[str] = Counter()

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        """Arguments from ``cfg.INPUT``."""
        if cfg.INPUT.RESIZE != "fixed" or cfg.INPUT.CROP.ENABLED:
            raise ConfigError(
                'scene folders take only INPUT.RESIZE "fixed" without INPUT.CROP (they have '
                "INPUT.CROP_WINDOW); set RESIZE and CROP.ENABLED back, or use a panoptic set"
            )
        return {
            "is_train": is_train,
            "crop_window": tuple(cfg.INPUT.CROP_WINDOW) or None,
            "image_size": cfg.INPUT.IMAGE_SIZE,
            "random_flip": cfg.INPUT.RANDOM_FLIP,
            "color": color_augmentation(cfg),
            "image_format": cfg.INPUT.FORMAT,
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map one data set dict (see :mod:`slotseg.data.datasets.clevr`); it is not changed.

        Returns:
            ``file_name``, ``image_id``, and ``height``, ``width`` of the result in pixels;
            ``image``: uint8 [3, H, W] ([1, H, W] for format "L");
            with a mask also ``segment_map``: int64 [H, W], 0 = background, i = object i,
            -1 = void, and ``segment_is_object``: bool [1 + number of objects of the scene],
            False for the background.

        Raises:
            DatasetError: a file is missing, damaged, or of another size than it should be, or
                a mask holds more objects than the scene lists.
        """
        name = dataset_dict["file_name"]
        image = read_image(name, self.image_format)
        self._check_image(image, dataset_dict)
        mask = None
        if "mask_file_name" in dataset_dict:
            mask = read_mask(dataset_dict["mask_file_name"])
            _check_mask(mask, image, dataset_dict)
        if self.crop_window is not None:
            top, left, bottom, right = self.crop_window
            image = image[top:bottom, left:right]
            mask = None if mask is None else mask[top:bottom, left:right]

        # Pillow resizes only arrays that own their rows.
        inputs = T.AugInput(
            np.ascontiguousarray(image),
            sem_seg=None if mask is None else np.ascontiguousarray(mask),
        )
        self.augmentations(inputs)
        height, width = inputs.image.shape[:2]
        mapped = {
            "file_name": name,
            "image_id": dataset_dict["image_id"],
            "height": height,
            "width": width,
            "image": torch.from_numpy(np.array(inputs.image.transpose(2, 0, 1), order="C")),
        }
        if mask is not None:
            num_objects = dataset_dict["num_objects"]
            mapped["segment_map"] = self._segment_map(inputs.sem_seg, num_objects, name)
            mapped["segment_is_object"] = torch.arange(1 + num_objects) > 0
        return mapped

    def _check_image(self, image: np.ndarray, dataset_dict: dict[str, Any]) -> None:
        name, (height, width) = dataset_dict["file_name"], image.shape[:2]
        listed = (dataset_dict.get("height", height), dataset_dict.get("width", width))
        if (height, width) != listed:
            raise DatasetError(
                f"{name}: the image is {height}x{width} (height x width), the data set lists "
                f"{listed[0]}x{listed[1]}; restore the file or make the data set again"
            )
        if self.crop_window is not None:
            bottom, right = self.crop_window[2:]
            if bottom > height or right > width:
                raise DatasetError(
                    f"{name}: INPUT.CROP_WINDOW {self.crop_window} does not fit into the "
                    f"image's {height}x{width} (height x width); change it, or set it to () for "
                    "images that are cropped already"
                )

    def _segment_map(self, mask: np.ndarray, num_objects: int, name: str) -> torch.Tensor:
        segments = _SEGMENT_OF_VALUE[mask]
        if num_objects and segments.max() < 1:
            self._warn("no object is left in the mask after cropping and resizing", name)
        return torch.from_numpy(segments)

    def _warn(self, what: str, name: str) -> None:
        """Log the 1st, 10th, 100th ... time of each kind, so that a bad set is no flood."""
        self._seen[what] += 1
        count = self._seen[what]
        if count == 10 ** (len(str(count)) - 1):
            times = "" if count == 1 else f" (seen {count} times so far)"
            logging.getLogger(__name__).warning("%s: %s%s", name, what, times)


def _check_mask(mask: np.ndarray, image: np.ndarray, dataset_dict: dict[str, Any]) -> None:
    name = dataset_dict["mask_file_name"]
    if mask.shape != image.shape[:2]:
        raise DatasetError(
            f"{name}: the mask is {mask.shape[0]}x{mask.shape[1]} (height x width), its image "
            f"{dataset_dict['file_name']} is {image.shape[0]}x{image.shape[1]}; they must be equal"
        )
    num_objects = dataset_dict["num_objects"]
    highest = int(mask.max())
    if highest > num_objects:
        highest = int(mask[mask != VOID].max(initial=0))
    if highest > num_objects:
        raise DatasetError(
            f"{name}: the mask holds object {highest}, but the scene lists only {num_objects} "
            f"objects ({VOID} is void); make the data set again"
        )


def check_window(window: tuple[int, ...]) -> tuple[int, int, int, int]:
    """``INPUT.CROP_WINDOW`` if it is a window, else a ConfigError that names the key."""
    if len(window) != 4 or not all(isinstance(edge, int) for edge in window):
        raise ConfigError(
            f"INPUT.CROP_WINDOW is {window}, expected (top, left, bottom, right) in pixels, or ()"
        )
    top, left, bottom, right = window
    if top < 0 or left < 0 or bottom <= top or right <= left:
        raise ConfigError(
            f"INPUT.CROP_WINDOW {window} is empty or starts outside of the image; it is (top, "
            "left, bottom, right) in pixels, bottom and right exclusive"
        )
    return top, left, bottom, right
