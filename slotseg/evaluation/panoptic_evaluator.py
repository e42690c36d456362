"""Detectron2 evaluator for panoptic quality: scores in memory while predictions arrive."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from slotseg.classes import class_set
from slotseg.errors import ConfigError, DatasetError
from slotseg.evaluation.panoptic_export import CocoPanopticExport
from slotseg.evaluation.panoptic_quality import PanopticCounts, SegmentMap, count_image
from slotseg.evaluation.panoptic_report import PanopticReport
from slotseg.panoptic_png import read_id_map

_logger = logging.getLogger(__name__)


class PanopticQualityEvaluator(DatasetEvaluator):
    """Score panoptic predictions against the set's truth files.

    Inputs are data set dicts with ``image_id``, ``pan_seg_file_name`` and ``segments_info``
    (contiguous ``category_id``, ``iscrowd``); outputs have ``panoptic_seg``, a pair of segment ids
    (int ``[H, W]`` at the size of the file, 0 is nothing) and a list of ``{"id", "category_id"
    (contiguous)}``. The definition is that of :mod:`slotseg.evaluation.panoptic_quality`.

    Any part of a set may be scored, in any order and on any number of ranks, always to the same
    bits. Kept between batches are four counts a class and the ids of the images, never a map; with
    ``export_coco`` also the lists of segments.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        output_dir: str | None = None,
        export_coco: bool = False,
        images_expected: int | None = None,
    ) -> None:
        """
        Args:
            dataset_name: a registered panoptic set.
            output_dir: where ``<dataset_name>_panoptic.json`` (all scores and counts) goes; None
                writes nothing.
            export_coco: also write the predictions in COCO panoptic format, to
                ``<dataset_name>_predictions.json`` and a folder of the same name.
            images_expected: how many images the set has; None asks DatasetCatalog.

        Raises:
            ConfigError: a set without panoptic classes, or an export without ``output_dir``.
        """
        if export_coco and not output_dir:
            raise ConfigError("export_coco: predictions cannot be written without an output_dir")
        self._dataset_name = dataset_name
        self._output_dir = output_dir
        self._images_expected = images_expected
        self._classes = class_set(dataset_name)
        self._categories = {number: number for number in range(len(self._classes))}
        self._export = (
            CocoPanopticExport(
                output_dir,
                f"{dataset_name}_predictions",
                self._classes,
                MetadataCatalog.get(dataset_name).get("image_root", ""),
            )
            if export_coco
            else None
        )
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._counts = PanopticCounts.zeros(len(self._classes))
        self._image_ids: dict[str, None] = {}
        self._exported: list[dict[str, Any]] = []

    def process(
        self, inputs: Iterable[Mapping[str, Any]], outputs: Iterable[Mapping[str, Any]]
    ) -> None:
        """Score one batch.

        Raises:
            DatasetError: an image without truth or prediction, or seen before; a damaged truth
                file; maps and lists of segments that contradict each other, of another size, or
                with unknown categories. Names the image or the file, and the id.
        """
        for item, output in zip(inputs, outputs, strict=True):
            image_id = str(item["image_id"])
            if image_id in self._image_ids:
                raise DatasetError(self._duplicate(image_id))
            prediction = _prediction(image_id, output)
            self._counts += count_image(self._truth(item), prediction, self._categories)
            self._image_ids[image_id] = None
            if self._export:
                written = self._export.write_image(item, prediction.ids, prediction.segments)
                self._exported.append(written)

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Panoptic quality over the images of all ranks.

        Returns:
            ``{"panoptic": scores}`` on the main rank, see
            :meth:`slotseg.evaluation.panoptic_report.PanopticReport.scores`; ``{}`` on the others.

        Raises:
            DatasetError: no image was scored on any rank, or one on two ranks.
        """
        parts = comm.gather((self._counts, list(self._image_ids), self._exported), dst=0)
        if not comm.is_main_process():
            return {}
        counts = PanopticCounts.zeros(len(self._classes))
        times_seen: Counter[str] = Counter()
        exported = []
        for part_counts, image_ids, part_exported in parts:
            counts += part_counts
            times_seen.update(image_ids)
            exported += part_exported
        if not times_seen:
            raise DatasetError(f"{self._dataset_name}: no image was scored; the set is empty")
        if (most := times_seen.most_common(1)[0])[1] > 1:
            raise DatasetError(self._duplicate(most[0]))
        report = PanopticReport.from_counts(self._classes, counts, self._count_expected())
        # Whoever asked for the scores shows the means; the classes would be in files only.
        _logger.info(
            f"{self._dataset_name}: panoptic quality of every class in percent, "
            f"{report.setting()}\n{report.table(groups=False)}"
        )
        self._write(report, exported)
        return {"panoptic": report.scores()}

    def _write(self, report: PanopticReport, exported: list[dict[str, Any]]) -> None:
        if self._output_dir:
            path = os.path.join(self._output_dir, f"{self._dataset_name}_panoptic.json")
            report.write_json(path)
            _logger.info(f"Panoptic quality of every class: {path}")
        if self._export:
            self._export.write_json(sorted(exported, key=lambda image: image["image_id"]))
            _logger.info(f"Predictions in COCO panoptic format: {self._export.json_file}")

    def _truth(self, item: Mapping[str, Any]) -> SegmentMap:
        path, segments = item.get("pan_seg_file_name"), item.get("segments_info")
        if path is None or segments is None:
            raise DatasetError(
                f"image {item['image_id']}: {self._dataset_name} has no panoptic truth, so it "
                "cannot be scored; set DATASETS.TEST to a set with truth"
            )
        return SegmentMap(read_id_map(path), segments, path)

    def _count_expected(self) -> int:
        if self._images_expected is None:
            self._images_expected = len(DatasetCatalog.get(self._dataset_name))
        return self._images_expected

    def _duplicate(self, image_id: str) -> str:
        return (
            f"{self._dataset_name}: image {image_id} was scored twice; image ids have to be "
            "unique, and reset() has to be called between evaluations"
        )


def _prediction(image_id: str, output: Mapping[str, Any]) -> SegmentMap:
    source = f"prediction for image {image_id}"
    ids, segments = output.get("panoptic_seg") or (None, None)
    if ids is None or segments is None:
        raise DatasetError(
            f"{source}: missing, or without a list of segments; the model has to give "
            "panoptic_seg = (ids, segments_info)"
        )
    ids = ids.detach().cpu().numpy() if hasattr(ids, "detach") else np.asarray(ids)
    return SegmentMap(ids, segments, source)
