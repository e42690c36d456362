"""What ``tools/report.py`` does: the HTML report of a run, with pictures from its model."""

from __future__ import annotations

import os
from typing import Any

import torch
from detectron2.data import DatasetCatalog
from detectron2.utils.file_io import PathManager
from tqdm import tqdm

from slotseg.config import get_cfg
from slotseg.engine.checkpoint import FINAL, find_trained_weights
from slotseg.engine.cli import one_line
from slotseg.engine.pictures import drawn_pictures, to_rgb
from slotseg.engine.predictor import Prediction, Predictor
from slotseg.errors import ConfigError, DatasetError, SlotSegError
from slotseg.evaluation import (
    ImageScore,
    contingency_table,
    image_scores_file,
    read_image_scores,
    score_tables,
)
from slotseg.evaluation.panoptic_quality import (
    SegmentMap,
    class_qualities,
    count_image,
    group_quality,
)
from slotseg.ops.resize import resize_ids
from slotseg.panoptic_png import read_id_map
from slotseg.visualization import Example, choose_images, read_run_folder, write_report
from slotseg.visualization.panoptic_examples import PanopticExample, Segments

REPORT_FILE = "report.html"


def report_run(run_dir: str, output: str | None = None, *, num_images: int = 12) -> str:
    """Write the report of a run; what cannot be shown is named in it.

    Args:
        run_dir: ``OUTPUT_DIR`` of the run.
        output: file to write; default ``report.html`` in ``run_dir``.
        num_images: how many images to show; 0: none.

    Returns:
        The path of the report.

    Raises:
        DatasetError: ``run_dir`` is not the folder of a run.
        ConfigError: a negative number of images.
    """
    if num_images < 0:
        raise ConfigError(f"--images: must not be negative, got {num_images}")
    run = read_run_folder(run_dir)
    examples: list[Example | PanopticExample] = []
    origin, notes = "", []
    if num_images:
        try:
            examples, origin = _examples(run_dir, num_images)
        except SlotSegError as error:
            notes.append(f"No images: {one_line(error)}")
    path = output or os.path.join(run_dir, REPORT_FILE)
    try:
        write_report(run, path, examples, notes, examples_from=origin)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be written ({error.strerror or error})") from error
    return path


def _examples(run_dir: str, count: int) -> tuple[list[Example | PanopticExample], str]:
    """Predictions for images of the first test set, and a sentence on where they come from."""
    config = os.path.join(run_dir, "config.yaml")
    cfg = get_cfg(config)
    weights = _weights(run_dir)
    cfg.MODEL.WEIGHTS = weights
    # What is trained without being scored shows images that it was trained on.
    datasets = cfg.DATASETS.TEST or cfg.DATASETS.TRAIN
    if not datasets:
        raise ConfigError(f"{config}: DATASETS.TEST and DATASETS.TRAIN are empty")
    dataset = datasets[0]
    if dataset not in DatasetCatalog:
        raise ConfigError(f"{config}: DATASETS names {dataset}, which is not registered here")
    dicts = {entry["image_id"]: entry for entry in DatasetCatalog.get(dataset)}
    chosen = choose_images(_image_scores(run_dir, dataset, dicts), count, seed=max(cfg.SEED, 0))
    predictor = Predictor(cfg)
    bar = tqdm(chosen, desc="predicting images", unit="image", disable=None)
    examples = [_example(predictor, dicts[image.image_id], group) for group, image in bar]
    return examples, f"From {dataset}, predicted by {os.path.basename(weights)}."


def _weights(run_dir: str) -> str:
    """The final weights, which results.json is about; of an unfinished run the best or the last."""
    final = os.path.join(run_dir, f"{FINAL}.pth")
    return final if PathManager.isfile(final) else find_trained_weights(run_dir)


def _image_scores(run_dir: str, dataset: str, dicts: dict[str, dict[str, Any]]) -> list[ImageScore]:
    """Scores by which images are chosen; without a file of them all are equal."""
    path = os.path.join(run_dir, "inference", image_scores_file(dataset))
    if PathManager.isfile(path):
        known = [image for image in read_image_scores(path) if image.image_id in dicts]
        if known:
            return known
    return [
        ImageScore(image_id, entry["file_name"], 0, 0, "", 0) for image_id, entry in dicts.items()
    ]


def _example(predictor: Predictor, entry: dict[str, Any], group: str) -> Example | PanopticExample:
    item = predictor.mapper(entry)
    output = predictor.look(item, draw=True)
    if "panoptic_seg" not in output:
        drawn = drawn_pictures(output, predictor.cfg.INPUT.FORMAT)
        image = to_rgb(item["image"], predictor.cfg.INPUT.FORMAT)
        return Example(name=item["file_name"], image=image, drawn=drawn, group=group)
    prediction = predictor.prediction(item, output)
    if prediction.metadata is not None:
        return _panoptic_example(prediction, group)
    truth = item.get("segment_map")
    if truth is not None and truth.shape != prediction.segments.shape:
        # Segments without classes on a panoptic set: predicted at the size of the file.
        item = {**item, "segment_map": resize_ids(truth, prediction.segments.shape)}
        truth = item["segment_map"]
    return Example(
        name=item["file_name"],
        image=prediction.image,
        # Segment ids start at 1.
        prediction=prediction.segments.numpy() - 1,
        masks=prediction.masks,
        truth=None if truth is None else truth.numpy(),
        drawn=prediction.drawn,
        group=group,
        scores={} if truth is None else _scores(prediction.segments, item),
    )


def _panoptic_example(prediction: Prediction, group: str) -> PanopticExample:
    item = prediction.item
    predicted = Segments(prediction.segments.numpy(), prediction.segments_info)
    truth, scores = None, {}
    if "pan_seg_file_name" in item:
        path = item["pan_seg_file_name"]
        truth = Segments(read_id_map(path), item["segments_info"])
        scores = _image_quality(truth, predicted, item, len(prediction.metadata.stuff_classes))
    return PanopticExample(
        name=item["file_name"],
        image=prediction.image,
        prediction=predicted,
        metadata=prediction.metadata,
        truth=truth,
        drawn=prediction.drawn,
        group=group,
        scores=scores,
    )


def _image_quality(
    truth: Segments, predicted: Segments, item: dict[str, Any], num_classes: int
) -> dict[str, float]:
    """PQ, SQ and RQ of one image in percent: means over the classes that it shows."""
    counts = count_image(
        SegmentMap(truth.ids, truth.info, item["pan_seg_file_name"]),
        SegmentMap(predicted.ids, predicted.info, f"prediction for {item['file_name']}"),
        {number: number for number in range(num_classes)},
    )
    quality = group_quality(class_qualities(counts))
    return {"PQ": 100 * quality.pq, "SQ": 100 * quality.sq, "RQ": 100 * quality.rq}


def _scores(segments: torch.Tensor, item: dict[str, Any]) -> dict[str, float]:
    """Scores of the very prediction that is shown: sampled slots differ from run to run."""
    is_object = item["segment_is_object"]
    table = contingency_table(
        segments[None], item["segment_map"][None], int(segments.max()) + 1, len(is_object)
    )
    is_segment = torch.arange(table.shape[1])[None] > 0
    scores = score_tables(table, is_object[None], is_segment)
    return {name: float(value) for name, value in scores.items()}
