"""A trained model for single images, as Detectron2's ``DefaultPredictor`` is for detectors."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.modeling import build_model

from slotseg.data.images import read_image
from slotseg.data.mappers import build_mapper, dataset_kind
from slotseg.decoders import drawing
from slotseg.engine.checkpoint import load_weights
from slotseg.engine.defaults import available_device
from slotseg.engine.inference import inference_mode
from slotseg.engine.pictures import drawn_pictures, reordered, to_rgb
from slotseg.engine.rng import forked_rng
from slotseg.errors import ConfigError, DatasetError
from slotseg.evaluation import attention_segments, masks_of


@dataclass(frozen=True)
class Prediction:
    """What the model saw, and what it said.

    Attributes:
        item: the mapper's dict, see :class:`slotseg.data.SceneMapper` and
            :class:`slotseg.data.panoptic_mapper.PanopticMapper`.
        output: the model's dict, tensors on the CPU.
        image: uint8 ``[H, W, 3]`` RGB as large as the segments: for panoptic sets the whole file,
            for scenes what the model saw, cropped and resized.
        segments: int64 ``[H, W]``, segment ids, 0 is none: the panoptic segments, or for scenes
            those that ``TEST.MASK_SOURCE`` asks for.
        segments_info: one dict a segment, with ``id`` and, where segments have no class, ``slot``,
            else ``category_id`` (contiguous) and ``isthing``.
        metadata: names and colours of the classes; None where segments have none.
        masks: float32 ``[K, h, w]``, softmax over K, one mask a slot (or parent), those that the
            segments come from; None: no slots.
        drawn: what the model drew by name, such as its "reconstruction": uint8 ``[h, w, 3]`` RGB.
    """

    item: dict[str, Any]
    output: dict[str, Any]
    image: np.ndarray
    segments: torch.Tensor
    segments_info: list[dict[str, Any]]
    metadata: Metadata | None
    masks: np.ndarray | None
    drawn: dict[str, np.ndarray]


class Predictor:
    """Model, weights and image preparation from a config, for any meta-architecture.

    Images are prepared as those of the first set in ``DATASETS.TEST``, or else in
    ``DATASETS.TRAIN``, are in evaluation; no data set has to be there. Sampled initial slots are
    drawn from ``cfg.SEED`` for every image anew, so that an image always gets the same segments.

    Args:
        cfg: ``MODEL.WEIGHTS`` are loaded (``TEST.WEIGHTS_OF`` says whose, where there is a
            teacher); empty keeps the random initialisation. A device that is not there is replaced
            by the CPU.

    Raises:
        CheckpointError: weights that cannot be loaded, or are of another model.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg.clone()
        self.cfg.defrost()
        self.cfg.MODEL.DEVICE = available_device(cfg.MODEL.DEVICE)
        self.cfg.freeze()
        names = (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN)[:1]
        self.mapper = build_mapper(self.cfg, False, names)
        self._panoptic = any(dataset_kind(name) == "panoptic" for name in names)
        self.model = build_model(self.cfg)
        # After the model, which has the training set's classes read where only its file names them.
        self._metadata = _class_metadata((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST))
        if cfg.MODEL.WEIGHTS:
            load_weights(
                self.model,
                cfg.MODEL.WEIGHTS,
                trust_pickle=cfg.MODEL.TRUST_PICKLE,
                weights_of=cfg.TEST.WEIGHTS_OF,
            )

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
        return self.look(self._map(image, image_format))

    def predict_file(self, path: str) -> Prediction:
        """Segment one image file.

        Raises:
            DatasetError: it cannot be read, or ``INPUT.CROP_WINDOW`` does not fit into it.
        """
        return self.predict(self.mapper({"file_name": path, "image_id": path}))

    def predict(self, item: dict[str, Any], *, draw: bool = False) -> Prediction:
        """Segment one image that the mapper has prepared.

        Args:
            item: the mapper's dict.
            draw: also have reconstructions of decoders that draw only on request, which may take
                many times as long.

        Raises:
            ConfigError: the model gives no segments, or no masks of the kind that
                ``TEST.MASK_SOURCE`` names.
        """
        return self.prediction(item, self.look(item, draw=draw))

    def look(self, item: dict[str, Any], *, draw: bool = False) -> dict[str, Any]:
        """The model's output for an image that the mapper has prepared, tensors on the CPU; see
        :meth:`predict`.
        """
        with (
            forked_rng(max(self.cfg.SEED, 0)),
            inference_mode(self.model) as model,
            drawing(model) if draw else nullcontext(),
        ):
            output = model([item])[0]
        return {name: _on_cpu(value) for name, value in output.items()}

    def prediction(self, item: dict[str, Any], output: dict[str, Any]) -> Prediction:
        """What :meth:`look` gave for ``item``, with its segments; see :meth:`predict`."""
        if "panoptic_seg" not in output:
            raise ConfigError(
                f"MODEL.META_ARCHITECTURE {self.cfg.MODEL.META_ARCHITECTURE} makes no segments; it "
                "is there for the weights that other models start from"
            )
        # Panoptic segments are the head's, whose masks are the first decoder's.
        source = "decoder" if self._panoptic else self.cfg.TEST.MASK_SOURCE
        masks = masks_of(output, source)
        if masks is None and not self._panoptic:
            raise ConfigError(
                f"TEST.MASK_SOURCE: the model gives no {source} masks; choose another source"
            )
        if source != "decoder":
            segments = attention_segments(masks, tuple(item["image"].shape[1:]))
            info = [{"id": int(i), "slot": int(i) - 1} for i in segments.unique()]
        else:
            segments, info = output["panoptic_seg"]
        return Prediction(
            item=item,
            output=output,
            image=self._shown_image(item),
            segments=segments.long(),
            segments_info=info,
            metadata=None if any("slot" in segment for segment in info) else self._metadata,
            masks=None if masks is None else masks.float().numpy(),
            drawn=drawn_pictures(output, self.cfg.INPUT.FORMAT),
        )

    def _shown_image(self, item: dict[str, Any]) -> np.ndarray:
        if self._panoptic and item["image"].shape[1:] != (item["height"], item["width"]):
            return read_image(item["file_name"], "RGB")
        return to_rgb(item["image"], self.cfg.INPUT.FORMAT)

    def _map(self, image: np.ndarray, image_format: str) -> dict[str, Any]:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise DatasetError(
                f"an image must be uint8 [H, W, 3], got {image.dtype} {list(image.shape)}"
            )
        if image_format not in ("RGB", "BGR"):
            raise DatasetError(f"an image must be in RGB or BGR order, not {image_format!r}")
        window = getattr(self.mapper, "crop_window", None)
        if window is not None:
            top, left, bottom, right = window
            if bottom > image.shape[0] or right > image.shape[1]:
                raise DatasetError(
                    f"an image of {image.shape[0]}x{image.shape[1]} (height x width) does not "
                    f"hold INPUT.CROP_WINDOW {window}; set it to () for images without a border"
                )
            image = image[top:bottom, left:right]
        image = reordered(image, image_format, self.cfg.INPUT.FORMAT)
        inputs = T.AugInput(np.ascontiguousarray(image))
        self.mapper.augmentations(inputs)
        # Panoptic results have the size of the file, those of scenes the size of the model's input.
        height, width = (image if self._panoptic else inputs.image).shape[:2]
        pixels = torch.from_numpy(inputs.image.transpose(2, 0, 1).copy())
        return {"file_name": "an image", "image": pixels, "height": height, "width": width}


def _class_metadata(dataset_names: Sequence[str]) -> Metadata | None:
    """Of the first set whose classes are known; the training set's are those of the model."""
    for name in dataset_names:
        metadata = MetadataCatalog.get(name)
        if metadata.get("stuff_classes"):
            return metadata
    return None


def _on_cpu(value: Any) -> Any:
    """Tensors in a dict, list or tuple moved to the CPU; everything else as it is."""
    if isinstance(value, torch.Tensor):
        return value.cpu()
    if isinstance(value, tuple | list):
        return type(value)(_on_cpu(part) for part in value)
    return value
