"""Pictures show what they should, pixel by pixel where that can be said."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.data import Metadata

from slotseg.visualization import overlays
from slotseg.visualization.palette import BACKGROUND, VOID, segment_colors

IMAGE = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)


def halves() -> tuple[torch.Tensor, list[dict]]:
    seg = torch.ones(16, 24, dtype=torch.int32)
    seg[:, 12:] = 4
    info = [
        {"id": 1, "category_id": 0, "isthing": True, "slot": 0},
        {"id": 4, "category_id": 0, "isthing": True, "slot": 3},
    ]
    return seg, info


def test_segments_have_the_colours_of_their_slots_and_the_picture_is_enlarged():
    seg, info = halves()
    plain = np.full_like(IMAGE, 128)
    picture = overlays.draw_segments(plain, seg, info, alpha=1.0, min_side=160)
    assert picture.shape == (160, 240, 3)
    assert picture.dtype == np.uint8
    # Away from outlines and labels.
    for column, slot in ((20, 0), (220, 3)):
        assert np.abs(picture[20, column] - segment_colors(4)[slot].astype(int)).max() <= 2


def test_the_same_input_gives_the_same_picture_and_stays_as_it_is():
    seg, info = halves()
    before = [dict(segment) for segment in info]
    first = overlays.draw_segments(IMAGE, seg, info, min_side=64)
    assert np.array_equal(first, overlays.draw_segments(IMAGE, seg, info, min_side=64))
    assert info == before


def test_classes_of_a_data_set_are_drawn_with_its_colours():
    seg, info = halves()
    info[1] |= {"isthing": False, "category_id": 1}
    metadata = Metadata()
    metadata.thing_classes, metadata.thing_colors = ["object"], [[200, 10, 10]]
    metadata.stuff_classes, metadata.stuff_colors = ["object", "sky"], [[0, 0, 0], [10, 10, 200]]
    picture = overlays.draw_segments(
        np.full_like(IMAGE, 128), seg, info, metadata=metadata, alpha=1.0, min_side=160
    )
    assert np.abs(picture[20, 20] - np.array([200, 10, 10])).max() <= 2
    assert np.abs(picture[20, 220] - np.array([10, 10, 200])).max() <= 2


def test_pixels_without_a_segment_show_the_image():
    seg, info = halves()
    seg[:, :12] = 0
    seg[:, 12:18] = 77  # an id that nobody describes
    plain = np.full_like(IMAGE, 128)
    picture = overlays.draw_segments(plain, seg, info, alpha=1.0, min_side=320).astype(int)
    # 340 of 360 columns: the outline is some pixels wide.
    assert np.abs(picture[:, :340] - 128).max() <= 2
    assert np.abs(picture[20, 470] - segment_colors(4)[3]).max() <= 2


def test_draw_segments_refuses_other_sizes_and_types():
    seg, info = halves()
    with pytest.raises(ValueError, match="do not fit"):
        overlays.draw_segments(IMAGE[:8], seg, info)
    with pytest.raises(ValueError, match="uint8"):
        overlays.draw_segments(IMAGE / 255, seg, info)


def test_segment_map_has_flat_colours_and_black_void():
    colors = overlays.truth_colors(3)
    picture = overlays.draw_segment_map(np.array([[0, 1], [2, -1]]), colors)
    assert picture.tolist() == [
        [list(BACKGROUND), colors[1].tolist()],
        [colors[2].tolist(), list(VOID)],
    ]


def test_matched_segments_share_the_colour_of_the_truth():
    truth = np.repeat([[0, 0, 1, 1, 2, 2]], 4, axis=0)
    prediction = np.repeat([[3, 3, 0, 0, 0, 2]], 4, axis=0)
    truth[0, 0] = -1
    colors = overlays.matched_colors(prediction, truth, 4)
    known = overlays.truth_colors(3)
    assert colors[3].tolist() == list(BACKGROUND)
    assert colors[0].tolist() == known[1].tolist()
    assert colors[2].tolist() == known[2].tolist()
    # The unused slot's colour is nobody else's.
    assert len({tuple(color) for color in colors.tolist()}) == 4
    assert colors[1].tolist() not in known.tolist()


def test_without_truth_colours_are_the_slots_own():
    assert np.array_equal(
        overlays.matched_colors(np.zeros((2, 2), int), None, 3), segment_colors(3)
    )


def test_cutouts_carry_the_mask_as_opacity():
    masks = np.zeros((2, 16, 24), np.float32)
    masks[0, :, :12] = masks[1, :, 12:] = 1.0
    left, right = overlays.slot_cutouts(IMAGE, masks)
    assert left.shape == (16, 24, 4)
    assert np.array_equal(left[:, :12, :3], IMAGE[:, :12])
    assert (left[:, :12, 3] == 255).all()
    assert (left[:, 12:] == 0).all()
    assert np.array_equal(overlays.on_paper(right)[:, 12:], IMAGE[:, 12:])
    assert (overlays.on_paper(right, (9, 8, 7))[:, :12] == (9, 8, 7)).all()


def test_small_masks_are_interpolated():
    alphas = overlays.slot_alphas(np.array([[[0.0, 1.0]]]), (2, 8))
    assert alphas.shape == (1, 2, 8)
    assert (np.diff(alphas[0, 0]) >= 0).all()
    assert (alphas[0, 0, 0], alphas[0, 0, -1]) == (0, 1)
    with pytest.raises(ValueError, match=r"\[K, h, w\]"):
        overlays.slot_alphas(np.zeros((2, 2)), (2, 2))


def test_sheet_holds_one_framed_tile_a_slot():
    masks = np.full((5, 4, 6), 0.2, np.float32)
    sheet = overlays.draw_slot_sheet(IMAGE, masks, columns=3, side=32)
    assert sheet.shape == (2 * 32 + 8, 3 * 48 + 2 * 8, 3)
    for slot in range(5):
        top, left = slot // 3 * 40, slot % 3 * 56
        assert sheet[top, left].tolist() == segment_colors(5)[slot].tolist()
    assert (sheet[40:, 112:] == 255).all()


def test_enlargement_is_whole_and_never_shrinks():
    assert overlays.enlargement((128, 96), 256) == 3
    assert overlays.enlargement((512, 1024), 256) == 1
    doubled = overlays.enlarge(IMAGE, 2)
    assert np.array_equal(doubled[::2, ::2], IMAGE)
    assert np.array_equal(doubled[1::2, 1::2], IMAGE)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((16, 24), (64, 96)),
        ((64, 64), (64, 64)),
        ((127, 200), (127, 200)),
        ((512, 1024), (64, 128)),
    ],
)
def test_tiles_come_near_their_side_by_a_whole_factor(size, expected):
    assert overlays.to_tile(np.full((*size, 3), 9, np.uint8), 64).shape == (*expected, 3)
    sheet = overlays.draw_slot_sheet(np.zeros((*size, 3), np.uint8), np.ones((1, 2, 2)), side=64)
    assert sheet.shape == (*expected, 3)


def test_nothing_to_arrange_is_refused():
    with pytest.raises(ValueError, match="no picture"):
        overlays.tile([], 3)
