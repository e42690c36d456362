"""The scores of every image as a CSV file, so that the worst images can be looked up."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass, field

from detectron2.utils.file_io import PathManager

from slotseg.errors import DatasetError
from slotseg.files import write_atomically

_FIXED_COLUMNS = ("image_id", "file_name", "height", "width", "mask_source", "objects")


@dataclass(frozen=True)
class ImageScore:
    """Scores of one image.

    Attributes:
        image_id: as in the data set.
        file_name: of the image.
        height: of the scored maps, in pixels.
        width: of the scored maps, in pixels.
        mask_source: "decoder", "attention" or "parents".
        objects: number of true objects with at least one valid pixel.
        scores: name of the score to its value; NaN where the image does not define it.
    """

    image_id: str
    file_name: str
    height: int
    width: int
    mask_source: str
    objects: int
    scores: dict[str, float] = field(default_factory=dict)


def image_scores_file(dataset_name: str) -> str:
    """Name of the CSV file that holds the scores of one data set's images."""
    return f"{dataset_name}_images.csv"


def write_image_scores(path: str, images: list[ImageScore]) -> None:
    """Write one row an image; a score that the image does not define is an empty cell."""
    names = list(images[0].scores) if images else []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_FIXED_COLUMNS, *names])
    for image in images:
        cells = [getattr(image, column) for column in _FIXED_COLUMNS]
        values = (image.scores[name] for name in names)
        writer.writerow(cells + ["" if math.isnan(value) else repr(value) for value in values])
    write_atomically(path, text.getvalue())


def read_image_scores(path: str) -> list[ImageScore]:
    """Read what :func:`write_image_scores` wrote.

    Raises:
        DatasetError: the file is missing or not of this layout.
    """
    try:
        with PathManager.open(path, "r") as file:
            return [_parse(row) for row in csv.DictReader(file)]
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); evaluate again") from error
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            f"{path}: not a table of image scores ({error}); evaluate again"
        ) from error


def _parse(row: dict[str, str]) -> ImageScore:
    scores = {name: row[name] for name in row if name not in _FIXED_COLUMNS}
    return ImageScore(
        image_id=row["image_id"],
        file_name=row["file_name"],
        height=int(row["height"]),
        width=int(row["width"]),
        mask_source=row["mask_source"],
        objects=int(row["objects"]),
        scores={name: float(value) if value else math.nan for name, value in scores.items()},
    )
