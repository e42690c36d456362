import numpy as np
import pytest

from slotseg.visualization.slot_planes import (
    draw_slot_planes,
    slot_plane_caption,
    slot_plane_svg,
)

BLUE = (43, 99, 217)


def plane(seeded: int = 2, **changes) -> dict:
    points = [[1.0, 0.0], [-1.0, 0.5], [0.0, -1.0]]
    made = {"image": "a<b.png", "points": points, "seeded": seeded}
    return {**made, "similarity": 0.25, "explained": 0.5, **changes}


def test_seeds_are_filled_and_learnt_slots_hollow():
    def blue(picture):
        return int((np.abs(picture.astype(int) - BLUE).sum(-1) < 30).sum())

    shown = [blue(draw_slot_planes([plane(seeded)])) for seeded in (0, 1, 2)]
    assert shown[0] == 0
    assert shown[2] == pytest.approx(2 * shown[1], rel=0.1)
    assert shown[1] > 20


def test_one_sheet_of_rows_of_four():
    one, four, five = (draw_slot_planes([plane()] * count).shape for count in (1, 4, 5))
    assert one[2] == 3
    assert four == (one[0], 4 * one[1], 3)
    assert five == (2 * one[0], 4 * one[1], 3)


def test_svg_has_the_colours_of_the_page_only():
    svg = slot_plane_svg(plane())
    assert svg.startswith("<svg")
    assert 'aria-label="Initial slots of a&lt;b.png"' in svg
    assert "var(--series-1)" in svg
    assert "var(--muted)" in svg
    assert "#01" not in svg


@pytest.mark.parametrize("points", [[], [[0.0, 0.0]], [[0.0, 0.0]] * 3], ids=len)
def test_nothing_to_tell_apart_is_drawn_too(points):
    odd = plane(seeded=min(1, len(points)), points=points)
    assert slot_plane_svg(odd).endswith("</svg>\n")
    assert draw_slot_planes([odd]).std() > 0


def test_captions():
    assert slot_plane_caption(plane()) == "2 seeds, similarity 0.25; 50% of the variance"
    assert slot_plane_caption(plane(seeded=1)) == "1 seed; 50% of the variance"
    assert slot_plane_caption(plane(seeded=0)) == "no seeds; 50% of the variance"
