"""Predictions in COCO panoptic format, for submission servers and other programs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from slotseg.classes import ClassSet
from slotseg.errors import DatasetError
from slotseg.files import write_atomically
from slotseg.panoptic_png import write_id_map


class CocoPanopticExport:
    """Write one PNG an image while predictions arrive, and the JSON file at the end.

    The folder and the file have the same name, ``<name>/`` and ``<name>.json``, which is what
    most programs look for. Every rank of a run writes its own PNGs; one writes the JSON.
    """

    def __init__(self, output_dir: str, name: str, classes: ClassSet, image_root: str = "") -> None:
        """
        Args:
            output_dir: where the folder and the file go.
            name: of both.
            classes: of the data set, to write its own category ids.
            image_root: folder of the images, as it was registered; images are named by their path
                in it. Of those outside, and without such a folder, only the base name is written.
        """
        self.folder = os.path.join(output_dir, name)
        self.json_file = os.path.join(output_dir, f"{name}.json")
        self._classes = classes
        self._image_root = image_root

    def write_image(
        self,
        image: Mapping[str, Any],
        ids: np.ndarray,
        segments: Sequence[Mapping[str, Any]],
    ) -> dict[str, Any]:
        """Write the PNG of one image.

        Args:
            image: the data set's dict with ``image_id`` and ``file_name``.
            ids: integers ``[H, W]``, 0 is nothing.
            segments: ``id`` and ``category_id`` (contiguous) of every segment.

        Returns:
            What :meth:`write_json` needs to know about the image.

        Raises:
            DatasetError: an id that a PNG cannot hold.
        """
        image_id = str(image["image_id"])
        # Frames of different sequences may share a base name; ids are unique, and so is this.
        file_name = f"{quote(image_id, safe='')}.png"
        try:
            write_id_map(os.path.join(self.folder, file_name), ids)
        except ValueError as error:
            raise DatasetError(f"prediction for image {image_id}: {error}") from error
        return {
            "image_id": image_id,
            "image_file": self._name_of(str(image.get("file_name", ""))),
            "size": ids.shape,
            "file_name": file_name,
            "segments_info": [
                {
                    "id": int(segment["id"]),
                    "category_id": self._classes.dataset_ids[int(segment["category_id"])],
                }
                for segment in segments
            ],
        }

    def _name_of(self, path: str) -> str:
        """Path under the image folder: frames of different sequences share their base names."""
        root = self._image_root.rstrip("/")
        # Registered folders may be relative to one that only whoever reads the images knows.
        _, found, inside = path.partition(f"{root}/") if root else ("", "", "")
        return inside if found else os.path.basename(path)

    def write_json(self, images: Sequence[Mapping[str, Any]]) -> None:
        """Write the JSON of all ranks' images, atomically.

        Ids that are written as whole numbers become numbers, as in COCO; data set dicts have
        them as text.
        """
        numbered = [(_original_id(image["image_id"]), image) for image in images]
        content = {
            "images": [
                {
                    "id": image_id,
                    "file_name": image["image_file"],
                    "height": image["size"][0],
                    "width": image["size"][1],
                }
                for image_id, image in numbered
            ],
            "annotations": [
                {
                    "image_id": image_id,
                    "file_name": image["file_name"],
                    "segments_info": image["segments_info"],
                }
                for image_id, image in numbered
            ],
            "categories": [
                {"id": number, "name": name, "isthing": int(thing)}
                for number, name, thing in zip(
                    self._classes.dataset_ids,
                    self._classes.names,
                    self._classes.is_thing,
                    strict=True,
                )
            ],
        }
        write_atomically(self.json_file, json.dumps(content) + "\n")


def _original_id(image_id: str) -> int | str:
    """139 for "139", but "000139" stays what it is."""
    is_whole = image_id.isascii() and image_id.isdigit() and str(int(image_id)) == image_id
    return int(image_id) if is_whole else image_id
