"""From a panoptic data set dict to what the model takes: read, augment, number the segments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T

from slotseg.data.augmentation import build_augmentations
from slotseg.data.id_maps import number_segments
from slotseg.data.images import check_format, read_image
from slotseg.errors import ConfigError, DatasetError
from slotseg.panoptic_png import read_id_map


class PanopticMapper:
    """Reads one image and its panoptic PNG, and takes both through the augmentation chain.

    The segments of the PNG and of the data set dict must be the same, in training and evaluation:
    labels that do not fit are an error, not noise.

    Args:
        is_train: False adds what evaluators need: the name of the PNG and its segments.
        augmentations: applied to image and segment map alike, in this order; see
            :mod:`slotseg.data.augmentation`.
        image_format: "RGB", "BGR" or "L".

    Raises:
        ConfigError: unknown ``image_format``, or a config that cannot work.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: Sequence[T.Augmentation | T.Transform] = (),
        image_format: str = "RGB",
    ) -> None:
        check_format(image_format)
        self.is_train = is_train
        self.image_format = image_format
        self.augmentations = T.AugmentationList(list(augmentations))

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        """Arguments from ``cfg.INPUT``."""
        if tuple(cfg.INPUT.CROP_WINDOW):
            raise ConfigError(
                "INPUT.CROP_WINDOW is for scene folders; panoptic sets are scored at the full size "
                "of their files, so cut the files when you make the set and leave it empty"
            )
        return {
            "is_train": is_train,
            "augmentations": build_augmentations(cfg, is_train),
            "image_format": cfg.INPUT.FORMAT,
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map one data set dict (see :mod:`slotseg.data.datasets.coco_panoptic`), unchanged itself.

        Returns:
            ``file_name``, ``image_id``, and ``height``, ``width`` of the **file** in pixels;
            ``image``: uint8 [3, h, w] ([1, h, w] for format "L"), augmented;
            with ``pan_seg_file_name`` also

            - ``segment_map``: int64 [h, w], index into the S segments, -1 = void, which padding is;
            - ``segment_category``: int64 [S], contiguous class;
            - ``segment_is_object``: bool [S], a thing and not a crowd;
            - ``segment_is_crowd``: bool [S];
            - for evaluation ``pan_seg_file_name`` and ``segments_info`` as they came.

            A segment that was cropped away stays in the lists. S may be 0.

        Raises:
            DatasetError: a file is missing, damaged, or of another size than it should be, or
                the ids in the PNG are not exactly the listed ones.
        """
        name = dataset_dict["file_name"]
        image = read_image(name, self.image_format)
        height, width = image.shape[:2]
        _check_image_size((height, width), dataset_dict)
        segments = self._read_segments(dataset_dict, (height, width))
        inputs = T.AugInput(image, sem_seg=segments)
        self.augmentations(inputs)
        mapped = {
            "file_name": name,
            "image_id": dataset_dict["image_id"],
            "height": height,
            "width": width,
            "image": torch.from_numpy(np.array(inputs.image.transpose(2, 0, 1), order="C")),
        }
        if segments is None:
            return mapped
        info = dataset_dict["segments_info"]
        crowd = torch.tensor([bool(segment["iscrowd"]) for segment in info], dtype=torch.bool)
        thing = torch.tensor([bool(segment["isthing"]) for segment in info], dtype=torch.bool)
        category = [segment["category_id"] for segment in info]
        # From 0 for void to -1 for void.
        mapped["segment_map"] = torch.from_numpy(np.subtract(inputs.sem_seg, 1, dtype=np.int64))
        mapped["segment_category"] = torch.tensor(category, dtype=torch.int64)
        mapped["segment_is_object"] = thing & ~crowd
        mapped["segment_is_crowd"] = crowd
        if not self.is_train:
            mapped["pan_seg_file_name"] = dataset_dict["pan_seg_file_name"]
            mapped["segments_info"] = info
        return mapped

    def _read_segments(
        self, dataset_dict: dict[str, Any], size: tuple[int, int]
    ) -> np.ndarray | None:
        """Segment numbers [H, W], 0 void; None for an image without labels."""
        path = dataset_dict.get("pan_seg_file_name")
        if path is None:
            return None
        ids = read_id_map(path)
        if ids.shape != size:
            raise DatasetError(
                f"{path}: the panoptic PNG is {ids.shape[0]}x{ids.shape[1]} (height x width), its "
                f"image {dataset_dict['file_name']} is {size[0]}x{size[1]}; they must be equal"
            )
        if "segments_info" not in dataset_dict:
            raise DatasetError(
                f"{path}: the data set dict names this PNG but has no segments_info; add it, or "
                "leave the PNG out to use the image without labels"
            )
        return number_segments(ids, [s["id"] for s in dataset_dict["segments_info"]], path)


def _check_image_size(size: tuple[int, int], dataset_dict: dict[str, Any]) -> None:
    listed = (dataset_dict.get("height", size[0]), dataset_dict.get("width", size[1]))
    if size != listed:
        raise DatasetError(
            f"{dataset_dict['file_name']}: the image is {size[0]}x{size[1]} (height x width), the "
            f"data set lists {listed[0]}x{listed[1]}; restore the file or make the data set again"
        )
