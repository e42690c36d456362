"""The per-image table survives a round trip and names what is wrong with a bad one."""

from __future__ import annotations

import math

import pytest

from slotseg.errors import DatasetError
from slotseg.evaluation import ImageScore, read_image_scores, write_image_scores


def image(name: str, **scores: float) -> ImageScore:
    return ImageScore(name, f"folder, with comma/{name}.png", 128, 96, "decoder", 3, scores)


def test_round_trip_is_exact_and_nan_is_an_empty_cell(tmp_path):
    path = str(tmp_path / "new" / "scores.csv")
    images = [image("a", ARI=1 / 3, mBO=math.nan), image("b", ARI=-0.5, mBO=1.0)]
    write_image_scores(path, images)
    text = (tmp_path / "new" / "scores.csv").read_text()
    assert "nan" not in text.lower()
    back = read_image_scores(path)
    assert [row.file_name for row in back] == [row.file_name for row in images]
    assert back[0].scores["ARI"] == 1 / 3
    assert math.isnan(back[0].scores["mBO"])
    assert back[1] == images[1]
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["scores.csv"]


def test_missing_and_foreign_files_are_named(tmp_path):
    with pytest.raises(DatasetError, match=r"none\.csv: cannot be read"):
        read_image_scores(str(tmp_path / "none.csv"))
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DatasetError, match=r"other\.csv: not a table"):
        read_image_scores(str(tmp_path / "other.csv"))
