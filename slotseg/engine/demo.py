"""What ``tools/demo.py`` does: segments and slots of image files, drawn into a folder."""

from __future__ import annotations

import glob
import io
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager
from PIL import Image
from tqdm import tqdm

from slotseg.config import has_slots
from slotseg.engine.checkpoint import weights_for_inference
from slotseg.engine.cli import one_line
from slotseg.engine.pictures import reconstructions, to_rgb
from slotseg.engine.predictor import Prediction, Predictor
from slotseg.errors import ConfigError, DatasetError
from slotseg.files import write_atomically
from slotseg.visualization import (
    draw_hierarchy,
    draw_segments,
    draw_slot_sheet,
    enlarge,
    enlargement,
    tile,
)

# What a folder or a pattern is searched for; a file named in full may end as it likes.
_EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


def run_demo(
    cfg: CfgNode,
    inputs: Sequence[str],
    output: str,
    *,
    slots: bool = False,
    hierarchy: bool = False,
    reconstruction: bool = False,
) -> int:
    """Draw every input image; one that cannot be drawn is reported and skipped.

    Segments are named and coloured by their classes, where the model knows classes, and by their
    slots otherwise. Writes ``<name>_segments.png`` and, if asked, ``<name>_slots.png``,
    ``<name>_hierarchy.png`` and ``<name>_reconstruction.png`` for every image. An input is never
    overwritten.

    Args:
        cfg: of the model. Empty ``MODEL.WEIGHTS`` takes the trained weights in ``OUTPUT_DIR``.
        inputs: files, folders (their images) and glob patterns.
        output: folder of the pictures; made if it is not there.
        slots: also draw every slot's mask.
        hierarchy: also draw the parents of a two-level grouping, each with its sub-slots.
        reconstruction: also show the image as the model draws it, beside the original; of a model
            without segments this is the only picture.

    Returns:
        The number of inputs that could not be drawn.

    Raises:
        SlotSegError: no model, one without what is to be drawn, or nothing to draw at all.
    """
    files, problems = find_images(inputs)
    for problem in problems:
        _complain(problem)
    if not files:
        raise DatasetError("no image to draw among the inputs; give files, folders or patterns")
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = weights_for_inference(cfg)
    predictor = Predictor(cfg)
    kept = {os.path.realpath(file) for file in files}
    failed = len(problems)
    for file, name in tqdm(output_names(files), desc="drawing", unit="image", disable=None):
        try:
            item = predictor.mapper({"file_name": file, "image_id": file})
            looked = predictor.look(item, draw=reconstruction)
            pictures = {}
            if "panoptic_seg" in looked or not reconstruction:
                prediction = predictor.prediction(item, looked)
                pictures["segments"] = _segments(prediction)
                if slots:
                    pictures["slots"] = _slots(prediction, cfg.MODEL.META_ARCHITECTURE)
                if hierarchy:
                    pictures["hierarchy"] = _hierarchy(prediction)
            if reconstruction:
                pictures["reconstruction"] = _reconstruction(item, looked, cfg)
            for kind, picture in pictures.items():
                _save(picture, f"{os.path.join(output, name)}_{kind}.png", kept)
        except DatasetError as error:
            _complain(one_line(error))
            failed += 1
    return failed


def find_images(inputs: Iterable[str]) -> tuple[list[str], list[str]]:
    """Files that the inputs stand for, each once, in order; and what stands for none.

    A folder stands for the images in it (not in its subfolders), a pattern for what it matches.
    """
    files: dict[str, None] = {}
    problems = []
    for entry in inputs:
        if PathManager.isdir(entry):
            found = sorted(os.path.join(entry, name) for name in PathManager.ls(entry))
            found = [path for path in found if path.lower().endswith(_EXTENSIONS)]
            problem = f"{entry}: no images in this folder ({', '.join(_EXTENSIONS)})"
        elif PathManager.isfile(entry):
            found, problem = [entry], ""
        elif glob.has_magic(entry):
            found = sorted(
                path for path in glob.glob(entry, recursive=True) if os.path.isfile(path)
            )
            problem = f"{entry}: nothing matches this pattern"
        else:
            found, problem = [], f"{entry}: no such file or folder"
        if not found:
            problems.append(problem)
        files.update(dict.fromkeys(found))
    return list(files), problems


def output_names(files: Sequence[str]) -> list[tuple[str, str]]:
    """(file, name without extension) with a number where two files would share a name."""
    taken: set[str] = set()
    named = []
    for file in files:
        stem = os.path.splitext(os.path.basename(file))[0]
        name, number = stem, 1
        while name in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name)
        named.append((file, name))
    return named


def _segments(prediction: Prediction) -> np.ndarray:
    return draw_segments(
        prediction.image,
        prediction.segments,
        prediction.segments_info,
        metadata=prediction.metadata,
    )


def _slots(prediction: Prediction, model: str) -> np.ndarray:
    if prediction.masks is None:
        raise ConfigError(f"--slots: {model} has no slots; leave it out")
    return draw_slot_sheet(prediction.image, prediction.masks)


def _hierarchy(prediction: Prediction) -> np.ndarray:
    output = prediction.output
    if "parent_of" not in output:
        raise ConfigError(
            "--hierarchy: the model's slots have no parents; leave it out, or train with "
            "MODEL.SLOTS.GROUPING.NAME NestedSlotAttention"
        )
    masks, parent_of = output["slot_masks"].float().numpy(), output["parent_of"].numpy()
    return draw_hierarchy(prediction.image, masks, parent_of)


def _reconstruction(item: dict[str, Any], looked: dict[str, Any], cfg: CfgNode) -> np.ndarray:
    drawn = reconstructions(looked, cfg.INPUT.FORMAT)
    if not drawn:
        model = cfg.MODEL.META_ARCHITECTURE
        if has_slots(model):
            model += f" with the decoders {', '.join(cfg.MODEL.DECODERS)}"
        raise ConfigError(
            f"--reconstruction: {model} draws no images; leave it out, or train slots with "
            "SpatialBroadcastDecoder or LatentDiffusionDecoder"
        )
    pictures = [to_rgb(item["image"], cfg.INPUT.FORMAT), *drawn.values()]
    factor = enlargement(pictures[0].shape[:2])
    return tile([enlarge(picture, factor, smooth=True) for picture in pictures], len(pictures))


def _save(picture: np.ndarray, path: str, kept: set[str]) -> None:
    if os.path.realpath(path) in kept:
        raise DatasetError(f"{path}: is one of the inputs; choose another --output")
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    try:
        write_atomically(path, file.getvalue())
    except OSError as error:
        raise DatasetError(f"{path}: cannot be written ({error.strerror or error})") from error


def _complain(message: str) -> None:
    tqdm.write(f"error: {message}", file=sys.stderr)
