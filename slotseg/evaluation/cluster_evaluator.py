"""Detectron2 evaluator for panoptic segments whose classes are clusters."""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from tabulate import tabulate

from slotseg.classes import ClassSet, class_set
from slotseg.errors import DatasetError
from slotseg.evaluation.cluster_assignment import assign_clusters
from slotseg.evaluation.panoptic_evaluator import PanopticQualityEvaluator
from slotseg.files import write_atomically
from slotseg.panoptic_png import read_id_map

CLUSTERS = "clusters"
"""The key of what is told about clusters in a results dict."""

_logger = logging.getLogger(__name__)


class ClusterPanopticEvaluator(DatasetEvaluator):
    """Panoptic quality without labels: clusters get classes on the whole set, then it is scored.

    The protocol of U2Seg (Niu et al. 2024) and CUPS (Hahn et al. 2025): pixels that clusters and
    true classes share are counted over the set (void and crowd left out), the assignment of
    :func:`slotseg.evaluation.cluster_assignment.assign_clusters` gives every cluster a class, and
    the relabelled segments are scored by :class:`PanopticQualityEvaluator`. Stuff clusters of one
    class become one segment an image; instances stay as they are; segments of clusters without a
    class become nothing. The truth of the set is used for nothing but that table, which makes the
    scores an upper bound in as much as it was made on the scored images.

    Inputs and outputs are those of :class:`PanopticQualityEvaluator`, with the cluster (0..K-1) as
    ``category_id``, and ``isthing`` in the predicted segments. Predictions are kept until the
    assignment is known: compressed, some kilobytes an image.

    Attributes:
        assignment: int64 ``[K]``, the class of every cluster, -1 for none; None before
            :meth:`evaluate`.

    Args:
        dataset_name: a registered panoptic set.
        num_clusters: K.
        extra: what becomes of clusters beyond the number of classes, "majority" or "void".
        output_dir: where ``<dataset_name>_clusters.json`` and the files of
            :class:`PanopticQualityEvaluator` go; None writes nothing.
        export_coco: see there.
    """

    def __init__(
        self,
        dataset_name: str,
        num_clusters: int,
        *,
        extra: str = "majority",
        output_dir: str | None = None,
        export_coco: bool = False,
    ) -> None:
        self._dataset_name = dataset_name
        self._num_clusters = num_clusters
        self._extra = extra
        self._output_dir = output_dir
        self._classes = class_set(dataset_name)
        self._quality = PanopticQualityEvaluator(
            dataset_name, output_dir=output_dir, export_coco=export_coco
        )
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._quality.reset()
        # A row for every cluster and one for pixels in none.
        self._table = np.zeros((self._num_clusters + 1, len(self._classes)), np.int64)
        self._is_thing = np.zeros(self._num_clusters, bool)
        self._kept: list[_Kept] = []
        self.assignment: np.ndarray | None = None

    def process(
        self, inputs: Iterable[Mapping[str, Any]], outputs: Iterable[Mapping[str, Any]]
    ) -> None:
        """Count one batch and keep its predictions.

        Raises:
            DatasetError: an image without truth or prediction, a prediction of another size than
                the truth, or a cluster that does not exist. What else is wrong shows in
                :meth:`evaluate`.
        """
        for item, output in zip(inputs, outputs, strict=True):
            kept = self._keep(item, output)
            self._table += self._count(kept)
            for segment in kept.segments:
                self._is_thing[segment["category_id"]] |= segment["isthing"]
            self._kept.append(kept)

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Assign, relabel, score.

        Returns:
            On the main rank ``{"panoptic": scores, "clusters": scores}``, else ``{}``. The latter:
            ``clusters`` (their number), ``thing_clusters``, ``assigned_clusters``, ``classes`` (of
            the set), ``matched_classes`` (those that got a cluster), and of all labelled pixels
            ``accuracy`` and ``mIoU`` in percent.
        """
        table = sum(comm.all_gather(self._table))
        is_thing = np.logical_or.reduce(comm.all_gather(self._is_thing))
        assigned = assign_clusters(
            table[:-1], is_thing, np.array(self._classes.is_thing), self._extra
        )
        self.assignment = assigned
        for kept in self._kept:
            self._quality.process([kept.item], [{"panoptic_seg": kept.relabelled(assigned)}])
        results = self._quality.evaluate()
        if not comm.is_main_process():
            return {}
        scores = _scores(table, assigned, is_thing)
        _logger.info(
            f"{self._dataset_name}: {self._num_clusters} clusters, {len(self._classes)} classes\n"
            + _table_text(table, assigned, is_thing, self._classes)
        )
        if self._output_dir:
            path = os.path.join(self._output_dir, f"{self._dataset_name}_clusters.json")
            content = _record(table, assigned, is_thing, self._classes)
            write_atomically(path, json.dumps({**content, "scores": scores}, indent=2) + "\n")
            _logger.info(f"The class of every cluster: {path}")
        return {**results, CLUSTERS: scores}

    def _keep(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> _Kept:
        source = f"prediction for image {item['image_id']}"
        ids, segments = output.get("panoptic_seg") or (None, None)
        if ids is None or segments is None:
            raise DatasetError(
                f"{source}: missing, or without a list of segments; the model has to give "
                "panoptic_seg = (ids, segments_info)"
            )
        unknown = {s["category_id"] for s in segments} - set(range(self._num_clusters))
        if unknown:
            raise DatasetError(
                f"{source}: cluster {min(unknown)}, but there are {self._num_clusters}; set "
                "UNSUPERVISED.CLUSTERS to that of the model"
            )
        if "pan_seg_file_name" not in item or "segments_info" not in item:
            raise DatasetError(
                f"image {item['image_id']}: {self._dataset_name} has no panoptic truth, so it "
                "cannot be scored; set DATASETS.TEST to a set with truth"
            )
        names = ("image_id", "file_name", "pan_seg_file_name", "segments_info", "height", "width")
        array = ids.detach().cpu().numpy() if hasattr(ids, "detach") else np.asarray(ids)
        return _Kept(
            {name: item[name] for name in names if name in item},
            zlib.compress(array.astype(np.int32).tobytes(), 1),
            array.shape,
            [dict(segment) for segment in segments],
        )

    def _count(self, kept: _Kept) -> np.ndarray:
        path = kept.item["pan_seg_file_name"]
        truth = read_id_map(path)
        if truth.shape != kept.shape:
            raise DatasetError(
                f"prediction for image {kept.item['image_id']}: {kept.shape[1]}x{kept.shape[0]} "
                f"pixels, but the truth ({path}) has {truth.shape[1]}x{truth.shape[0]}; predict at "
                "the full size of the image"
            )
        nothing, void = self._num_clusters, len(self._classes)
        rows = _looked_up(kept.ids(), {s["id"]: s["category_id"] for s in kept.segments}, nothing)
        columns = _looked_up(
            truth,
            {s["id"]: s["category_id"] for s in kept.item["segments_info"] if not s["iscrowd"]},
            void,
        )
        counts = np.bincount(
            (rows * (void + 1) + columns).ravel(), minlength=(nothing + 1) * (void + 1)
        )
        return counts.reshape(nothing + 1, void + 1)[:, :void]


@dataclass(frozen=True)
class _Kept:
    """What is needed of an image once the assignment is known."""

    item: dict[str, Any]
    packed: bytes
    shape: tuple[int, int]
    segments: list[dict[str, Any]]

    def ids(self) -> np.ndarray:
        """int32 ``[H, W]``."""
        return np.frombuffer(zlib.decompress(self.packed), np.int32).reshape(self.shape)

    def relabelled(self, assigned: np.ndarray) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """The same segments with classes; stuff of one class is one, what has no class is gone."""
        first_of_class: dict[int, int] = {}
        number_of: dict[int, int] = {}
        segments = []
        for segment in self.segments:
            number, category = segment["id"], int(assigned[segment["category_id"]])
            if category < 0:
                continue
            if not segment["isthing"]:
                number = first_of_class.setdefault(category, number)
            if number == segment["id"]:
                segments.append({"id": number, "category_id": category})
            number_of[segment["id"]] = number
        return _looked_up(self.ids(), number_of, 0), segments


def _looked_up(ids: np.ndarray, values: Mapping[int, int], default: int) -> np.ndarray:
    """The value of every id, int64; ``default`` for ids that have none."""
    found, index = np.unique(ids, return_inverse=True)
    looked_up = np.array([values.get(int(number), default) for number in found], np.int64)
    return looked_up[index.reshape(ids.shape)]


def _scores(table: np.ndarray, assigned: np.ndarray, is_thing: np.ndarray) -> dict[str, float]:
    classes = table.shape[1]
    confusion = np.zeros((classes + 1, classes), np.float64)
    # Index -1 is the last row: pixels without a class.
    np.add.at(confusion, np.append(assigned, -1), table)
    right = confusion[:classes].diagonal()
    true, predicted = confusion.sum(0), confusion[:classes].sum(1)
    union = true + predicted - right
    there = true > 0
    return {
        "clusters": float(len(assigned)),
        "thing_clusters": float(is_thing.sum()),
        "assigned_clusters": float((assigned >= 0).sum()),
        "classes": float(classes),
        "matched_classes": float(len(set(assigned[assigned >= 0].tolist()))),
        "accuracy": float(100 * right.sum() / true.sum()) if there.any() else float("nan"),
        "mIoU": float(100 * (right[there] / union[there]).mean()) if there.any() else float("nan"),
    }


def _record(
    table: np.ndarray, assigned: np.ndarray, is_thing: np.ndarray, classes: ClassSet
) -> dict[str, Any]:
    """The class of every cluster, its share of all labelled pixels, and how pure it is."""
    pixels, total = table[:-1].sum(1), max(int(table.sum()), 1)
    return {
        "clusters": [
            {
                "cluster": number,
                "isthing": bool(is_thing[number]),
                "class": classes.names[assigned[number]] if assigned[number] >= 0 else None,
                "share": float(pixels[number] / total),
                "purity": (
                    float(table[number, assigned[number]] / pixels[number])
                    if assigned[number] >= 0
                    else None
                ),
            }
            for number in range(len(assigned))
        ],
        "table": table.tolist(),
    }


def _table_text(
    table: np.ndarray, assigned: np.ndarray, is_thing: np.ndarray, classes: ClassSet
) -> str:
    rows = [
        [
            row["cluster"],
            "thing" if row["isthing"] else "stuff",
            f"{100 * row['share']:.1f}",
            row["class"] or "-",
            "-" if row["purity"] is None else f"{100 * row['purity']:.1f}",
        ]
        for row in _record(table, assigned, is_thing, classes)["clusters"]
    ]
    headers = ["cluster", "", "% of pixels", "class", "% in it"]
    return tabulate(rows, headers=headers, colalign=["right", "left", "right", "left", "right"])
