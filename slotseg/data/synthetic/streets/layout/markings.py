"""What is painted and mended on a road: lane lines, zebra crossings, stop lines, patches."""

from __future__ import annotations

import numpy as np

from slotseg.data.synthetic.streets import ground
from slotseg.data.synthetic.streets.labels import ID
from slotseg.data.synthetic.streets.layout.draws import chance, uniform
from slotseg.data.synthetic.streets.layout.plan import LANE_WIDTH
from slotseg.data.synthetic.streets.layout.site import Site
from slotseg.data.synthetic.streets.outlines import scaled
from slotseg.data.synthetic.streets.scene import Color, Face, Texture


def mark_road(site: Site, road: Color) -> None:
    """Add the marks of the street itself, and its repairs, on a road of this colour."""
    rng, plan = site.rng, site.plan
    marks: list[Face] = []
    bright = site.light.shade((0, 1, 0)) * uniform(rng, 0.6, 1.05)
    lanes = sorted(t for t, _ in plan.lanes)
    stops = [1.5, *[edge for pair in plan.crossings for edge in pair], plan.end]
    marked = chance(rng, 0.85)
    for begin, stop in zip(stops[::2], stops[1::2], strict=True):
        if stop - begin < 4 or not marked:
            continue
        for a, b in zip(lanes, lanes[1:], strict=False):
            if b - a < LANE_WIDTH + 0.5:
                solid = chance(rng, 0.15)
                t = (a + b) / 2
                marks.append(
                    ground.line(t, begin, stop - 3.5, bright)
                    if solid
                    else ground.dashes(t, begin + uniform(rng, 0, 3), stop - 4, bright)
                )
        if chance(rng, 0.4):
            for side in plan.sides:
                edge = side.sign * (side.road - 0.2)
                marks.append(ground.line(edge, begin, stop - 3.5, bright))
    right, left = plan.sides
    for near, _ in plan.crossings:
        if chance(rng, 0.5):
            marks.append(ground.zebra(-left.road, right.road, near - 3.2, bright))
        elif chance(rng, 0.5):
            marks.append(
                ground.cross_strip(
                    near - 1.4,
                    near - 1.0,
                    scaled((0.74,) * 3, bright),
                    Texture.ASPHALT,
                    plan.center,
                    right.road,
                )
            )
    for _ in range(int(rng.integers(0, 5))):  # repairs and manholes
        t = uniform(rng, -left.road, right.road - 1)
        z, wide, long = uniform(rng, 4, 30), uniform(rng, 0.5, 2), uniform(rng, 0.7, 5)
        corners = np.array([(t, z), (t + wide, z), (t + wide, z + long), (t, z + long)])
        marks.append(ground.patch(corners, scaled(road, uniform(rng, 0.72, 1.15))))
    if marks:
        site.scene.add(ID["road"], marks)
