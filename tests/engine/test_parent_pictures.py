"""The upper level of a two-level grouping in reports and TensorBoard."""

import numpy as np
import torch

from slotseg.engine.pictures import drawn_pictures, picture_row
from slotseg.visualization.palette import segment_colors


def example(size):
    masks = torch.zeros(3, 4, 8)
    # The first parent's two sub-slots win the left half together, though neither is the largest.
    masks[:, :, :4] = torch.tensor([0.3, 0.3, 0.4])[:, None, None]
    masks[2, :, 4:] = 1.0
    return {
        "panoptic_seg": (torch.ones(size, dtype=torch.int32), [{"id": 1, "slot": 0}]),
        "slot_masks": masks,
        "parent_of": torch.tensor([0, 0, 1]),
        "parent_attention": torch.full((2, 2, 4), 0.5),
        "reconstruction": torch.zeros(3, 4, 8),
    }


def test_parents_are_drawn_in_the_size_of_the_output():
    pictures = drawn_pictures(example((8, 16)), "RGB")
    assert list(pictures) == ["reconstruction", "parents"]
    first, second = segment_colors(2)
    assert (pictures["parents"][:, :7] == first).all()
    assert (pictures["parents"][:, 9:] == second).all()


def test_a_row_of_pictures_has_the_size_of_the_image():
    item = {"image": torch.zeros(3, 4, 8, dtype=torch.uint8)}
    row = picture_row(item, example((8, 16)), "RGB")
    assert list(row) == ["image", "segments", "reconstruction", "parents"]
    assert {picture.shape for picture in row.values()} == {(4, 8, 3)}
    assert np.array_equal(row["parents"][0, 0], segment_colors(2)[0])


def test_one_level_has_no_parents():
    output = {name: part for name, part in example((4, 8)).items() if "parent" not in name}
    assert list(drawn_pictures(output, "RGB")) == ["reconstruction"]
