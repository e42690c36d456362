"""A trained model for single images, as Detectron2's ``DefaultPredictor`` is for detectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.modeling import build_model
from PIL import Image

from slotseg.data import SceneMapper
from slotseg.engine.checkpoint import load_weights
from slotseg.engine.defaults import available_device
from slotseg.engine.inference import inference_mode
from slotseg.engine.rng import forked_rng
from slotseg.errors import ConfigError, DatasetError
from slotseg.evaluation import attention_segments


@dataclass(frozen=True)
class Prediction:
    """What the model saw, and what it said.

    Attributes:
        item: the mapper's dict, see :class:`slotseg.data.SceneMapper`.
        output: the model's dict, tensors on the CPU.
        image: uint8 ``[H, W, 3]`` RGB, cropped and resized, as the model saw it.
        segments: int64 ``[H, W]``, ids of the segments that ``TEST.MASK_SOURCE`` asks for, 0 is
            none.
        segments_info: one dict a segment, with at least ``id`` and ``slot``.
        masks: float32 ``[K, h, w]``, softmax over K, that they come from.
        reconstruction: uint8 ``[H, W, 3]`` RGB; None where no decoder makes one.
    """

    item: dict[str, Any]
    output: dict[str, Any]
    image: np.ndarray
    segments: torch.Tensor
    segments_info: list[dict[str, Any]]
    masks: np.ndarray
    reconstruction: np.ndarray | None


class Predictor:
    """Model, weights and image preparation from a config.

    Images are cropped and resized as in evaluation. Sampled initial slots are drawn from
    ``cfg.SEED`` for every image anew, so that an image always gets the same segments.

    Args:
        cfg: ``MODEL.WEIGHTS`` are loaded; empty keeps the random initialisation. A device that
            is not there is replaced by the CPU.

    Raises:
        CheckpointError: weights that cannot be loaded, or are of another model.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg.clone()
        self.cfg.defrost()
        self.cfg.MODEL.DEVICE = available_device(cfg.MODEL.DEVICE)
        self.cfg.freeze()
        self.mapper = SceneMapper(self.cfg, False)
        self.model = build_model(self.cfg)
        if cfg.MODEL.WEIGHTS:
            load_weights(self.model, cfg.MODEL.WEIGHTS, trust_pickle=cfg.MODEL.TRUST_PICKLE)

    def __call__(self, image: np.ndarray, image_format: str = "BGR") -> dict[str, Any]:
        """Segment one image.

        Args:
            image: uint8 ``[H, W, 3]``, of any size that holds ``INPUT.CROP_WINDOW``.
            image_format: its channel order, "BGR" (as OpenCV reads it) or "RGB".

        Returns:
            The model's output, see :class:`slotseg.meta_arch.SlotSeg`, tensors on the CPU.

        Raises:
            DatasetError: not such an image.
        """
        return self.predict(self._map(image, image_format)).output

    def predict_file(self, path: str) -> Prediction:
        """Segment one image file.

        Raises:
            DatasetError: it cannot be read, or ``INPUT.CROP_WINDOW`` does not fit into it.
        """
        return self.predict(self.mapper({"file_name": path, "image_id": path}))

    def predict(self, item: dict[str, Any]) -> Prediction:
        """Segment one image that the mapper has prepared.

        Raises:
            ConfigError: the model gives no masks of the kind that ``TEST.MASK_SOURCE`` names.
        """
        with forked_rng(max(self.cfg.SEED, 0)), inference_mode(self.model) as model:
            output = model([item])[0]
        output = {name: _on_cpu(value) for name, value in output.items()}
        from_attention = self.cfg.TEST.MASK_SOURCE == "attention"
        masks = output.get("attention" if from_attention else "slot_masks")
        if masks is None:
            raise ConfigError(
                f"TEST.MASK_SOURCE: the model gives no {self.cfg.TEST.MASK_SOURCE} masks; choose "
                "the other source"
            )
        if from_attention:
            segments = attention_segments(masks, tuple(item["image"].shape[1:]))
            info = [{"id": int(i), "slot": int(i) - 1} for i in segments.unique()]
        else:
            segments, info = output["panoptic_seg"]
        reconstruction = output.get("reconstruction")
        return Prediction(
            item=item,
            output=output,
            image=self._rgb(item["image"]),
            segments=segments.long(),
            segments_info=info,
            masks=masks.float().numpy(),
            reconstruction=None if reconstruction is None else self._rgb(reconstruction),
        )

    def _map(self, image: np.ndarray, image_format: str) -> dict[str, Any]:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise DatasetError(
                f"an image must be uint8 [H, W, 3], got {image.dtype} {list(image.shape)}"
            )
        if image_format not in ("RGB", "BGR"):
            raise DatasetError(f"an image must be in RGB or BGR order, not {image_format!r}")
        window = self.mapper.crop_window
        if window is not None:
            top, left, bottom, right = window
            if bottom > image.shape[0] or right > image.shape[1]:
                raise DatasetError(
                    f"an image of {image.shape[0]}x{image.shape[1]} (height x width) does not "
                    f"hold INPUT.CROP_WINDOW {window}; set it to () for images without a border"
                )
            image = image[top:bottom, left:right]
        image = _reordered(image, image_format, self.cfg.INPUT.FORMAT)
        inputs = T.AugInput(np.ascontiguousarray(image))
        self.mapper.augmentations(inputs)
        height, width = inputs.image.shape[:2]
        pixels = torch.from_numpy(inputs.image.transpose(2, 0, 1).copy())
        return {"file_name": "an image", "image": pixels, "height": height, "width": width}

    def _rgb(self, pixels: torch.Tensor) -> np.ndarray:
        """``[C, H, W]`` in 0..255 and ``INPUT.FORMAT`` order to uint8 RGB ``[H, W, 3]``."""
        array = pixels.float().round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
        if self.cfg.INPUT.FORMAT == "L":
            return array.repeat(3, axis=2)
        return np.ascontiguousarray(_reordered(array, self.cfg.INPUT.FORMAT, "RGB"))


def _reordered(image: np.ndarray, source: str, target: str) -> np.ndarray:
    """An RGB or BGR image ``[H, W, 3]`` in another order, or as one grey channel for "L"."""
    if target == "L":
        rgb = image if source == "RGB" else image[:, :, ::-1]
        return np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).convert("L"))[:, :, None]
    return image if source == target else image[:, :, ::-1]


def _on_cpu(value: Any) -> Any:
    """Tensors in a dict, list or tuple moved to the CPU; everything else as it is."""
    if isinstance(value, torch.Tensor):
        return value.cpu()
    if isinstance(value, tuple | list):
        return type(value)(_on_cpu(part) for part in value)
    return value
