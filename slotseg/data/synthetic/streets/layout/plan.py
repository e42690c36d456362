"""The plan of a street: its lanes, its edges and where side streets cross it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from slotseg.data.synthetic.streets.layout.districts import District
from slotseg.data.synthetic.streets.layout.draws import chance, uniform, weighted

#: Metres.
LANE_WIDTH = 3.3
#: How far a street is laid out that nothing closes, metres.
_OPEN_END = 170.0


@dataclass(frozen=True)
class Side:
    """Lateral positions of one side, as distances from t = 0 (all positive outwards)."""

    sign: int
    road: float
    parking: float  # outer edge of the parking lane, equal to ``road`` without one
    pavement: float
    verge: float
    line: float  # where buildings begin


@dataclass(frozen=True)
class StreetPlan:
    """Positions in road coordinates, metres; t = 0 is the middle of the camera's lane.

    Attributes:
        center: t of the left edge of the lanes that lead away from the camera.
        median: width of the strip between the two directions, 0 without one.
        lanes: t and heading of every lane.
        sides: right and left.
        crossings: near and far edge of every side street, nearest first.
        end: z at which the street ends.
    """

    center: float
    median: float
    lanes: tuple[tuple[float, float], ...]
    sides: tuple[Side, Side]
    crossings: tuple[tuple[float, float], ...]
    end: float

    @property
    def closed(self) -> bool:
        """Whether buildings stand across the street's end."""
        return self.end < 100

    def gap_after(self, z: float) -> float | None:
        """End of the side street that ``z`` lies in, with its pavements; None outside of any."""
        for near, away in self.crossings:
            if near - 3.0 <= z < away + 3.0:
                return away + 3.0
        return None


def sample_plan(rng: np.random.Generator, district: District) -> StreetPlan:
    """Draw the plan of a street in a district."""
    lanes_right = int(rng.integers(1, district.lanes[1] + 1))
    lanes_left = int(rng.integers(district.lanes[0], district.lanes[1] + 1))
    own_lane = int(rng.integers(lanes_right))
    median = uniform(rng, 1.5, 6.5) if chance(rng, 0.3 if lanes_left > 1 else 0.06) else 0.0
    center = -(own_lane + 0.5) * LANE_WIDTH
    left_edge = center - median
    lanes = [(center + (k + 0.5) * LANE_WIDTH, 0.0) for k in range(lanes_right)]
    lanes += [(left_edge - (k + 0.5) * LANE_WIDTH, math.pi) for k in range(lanes_left)]
    # The right side is drawn first: another order gives other scenes for a seed.
    right = _sample_side(rng, district, 1, center + lanes_right * LANE_WIDTH)
    left = _sample_side(rng, district, -1, -(left_edge - lanes_left * LANE_WIDTH))
    crossings: list[tuple[float, float]] = []
    where = uniform(rng, 9, 45)
    for _ in range(weighted(rng, [0.4, 0.4, 0.2])):
        width = uniform(rng, 6, 13)
        crossings.append((where, where + width))
        where += width + uniform(rng, 25, 60)
    end = uniform(rng, 30, 70) if chance(rng, 0.14) else _OPEN_END
    return StreetPlan(center, median, tuple(lanes), (right, left), tuple(crossings), end)


def _sample_side(rng: np.random.Generator, district: District, sign: int, road: float) -> Side:
    parking = road + (2.2 if chance(rng, district.parking) else 0.0)
    pavement = parking + uniform(rng, *district.pavement)
    verge = pavement + (uniform(rng, 0.8, 5.0) if chance(rng, district.verge) else 0.0)
    return Side(sign, road, parking, pavement, verge, verge + uniform(rng, *district.setback))
