import numpy as np
import pytest

from slotseg.visualization.hierarchy import draw_hierarchy, hierarchy_colors
from slotseg.visualization.palette import segment_colors

# Two parents, one with two sub-slots left and right, one with three of which only one is used.
OWNERS = np.array([0, 0, 1, 1, 1])


def example():
    image = np.full((8, 12, 3), 100, np.uint8)
    masks = np.zeros((5, 8, 12), np.float32)
    masks[0, :4, :6] = masks[1, :4, 6:] = masks[3, 4:] = 1.0
    return image, masks


def tile_of(sheet, row, column, size=(16, 24), gap=8):
    top, left = row * (size[0] + gap), column * (size[1] + gap)
    return sheet[top : top + size[0], left : left + size[1]]


def test_a_row_for_the_image_and_one_for_every_parent():
    sheet = draw_hierarchy(*example(), OWNERS, side=16)
    # Image, parents, sub-slots; 1 + 2; 1 + 3 tiles.
    assert sheet.shape == (3 * 16 + 2 * 8, 4 * 24 + 3 * 8, 3)
    blank = [
        (row, c) for row in range(3) for c in range(4) if (tile_of(sheet, row, c) == 255).all()
    ]
    assert blank == [(0, 3), (1, 3)]


def test_levels_are_told_apart_by_colour_and_families_kept_together():
    sheet = draw_hierarchy(*example(), OWNERS, side=16)
    upper, lower = tile_of(sheet, 0, 1), tile_of(sheet, 0, 2)
    parts = {"upper": upper, "left": lower[:8, :12], "right": lower[:8, 12:]}
    colors = {name: set(map(tuple, part.reshape(-1, 3))) for name, part in parts.items()}
    assert len(colors["upper"]) == 2
    assert len(colors["left"]) == len(colors["right"]) == 1
    assert colors["left"] != colors["right"]


def test_a_parent_shows_the_sum_of_its_sub_slots_in_its_own_frame():
    sheet = draw_hierarchy(*example(), OWNERS, side=16)
    parents, subs = hierarchy_colors(OWNERS)
    for parent, row in ((0, 1), (1, 2)):
        assert tile_of(sheet, row, 0)[0, 0].tolist() == parents[parent].tolist()
        for column, sub in enumerate(np.flatnonzero(np.equal(OWNERS, parent)), start=1):
            assert tile_of(sheet, row, column)[0, 0].tolist() == subs[sub].tolist()
    # Inside the frames: the first parent sees the upper half, its sub-slots a quarter each.
    seen = [(tile_of(sheet, 1, column)[4:-4, 4:-4] < 255).all(-1) for column in range(3)]
    assert seen[0][:3].all()
    assert not seen[0][-3:].any()
    assert np.array_equal(seen[0], seen[1] | seen[2])


def test_grey_paper_tells_the_unused_from_the_used():
    sheet = draw_hierarchy(*example(), OWNERS, side=16)
    unused = [(tile_of(sheet, 2, column)[4:-4, 4:-4] == 225).all() for column in range(4)]
    assert unused == [False, True, False, True]


def test_colours_are_the_palettes_and_all_differ():
    parents, subs = hierarchy_colors(np.repeat(np.arange(8), 4))
    assert np.array_equal(parents, segment_colors(8))
    assert len(np.unique(np.concatenate([parents, subs]), axis=0)) == 8 + 32


def test_a_single_sub_slot_a_parent_is_drawn():
    image, masks = example()
    sheet = draw_hierarchy(image, masks, np.arange(5), side=16)
    assert sheet.shape == (6 * 16 + 5 * 8, 3 * 24 + 2 * 8, 3)


def test_every_mask_needs_a_parent():
    image, masks = example()
    with pytest.raises(ValueError, match="5 masks need as many parents"):
        draw_hierarchy(image, masks, OWNERS[:4])
