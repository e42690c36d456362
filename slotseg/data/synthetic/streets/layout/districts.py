"""Parts of town: what the streets of each are like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slotseg.data.synthetic.streets.layout.draws import weighted


@dataclass(frozen=True)
class District:
    """Habits of a part of town.

    Attributes:
        lanes: how many lanes each direction may have.
        parking: probability of a lane of parked cars, per side.
        pavement: range of widths of the pavement, metres; the lower end may be 0.
        verge: probability of a green strip between pavement and buildings.
        edge: weights of what lines the street: building, house, trees, wall, fence, open ground.
        storeys: range of storeys.
        trees: probability that trees line the pavement.
        people, traffic: mean numbers of walkers and of moving cars.
        setback: range of the distance from the pavement to the buildings.
    """

    lanes: tuple[int, int]
    parking: float
    pavement: tuple[float, float]
    verge: float
    edge: tuple[float, float, float, float, float, float]
    storeys: tuple[int, int]
    trees: float
    people: float
    traffic: float
    setback: tuple[float, float]


DISTRICTS: dict[str, District] = {
    "centre": District(
        (1, 2),
        0.55,
        (2.2, 5.0),
        0.05,
        (0.92, 0, 0.03, 0.02, 0.02, 0.01),
        (3, 8),
        0.35,
        8,
        5,
        (0, 0.4),
    ),
    "boulevard": District(
        (1, 3),
        0.65,
        (2.5, 6.0),
        0.35,
        (0.62, 0.05, 0.2, 0.05, 0.05, 0.03),
        (3, 7),
        0.85,
        4,
        6,
        (0, 4),
    ),
    "suburb": District(
        (1, 1),
        0.6,
        (1.4, 2.6),
        0.45,
        (0.08, 0.46, 0.2, 0.09, 0.12, 0.05),
        (1, 3),
        0.5,
        2,
        2,
        (2, 7),
    ),
    "outskirts": District(
        (1, 3),
        0.08,
        (0.0, 2.5),
        0.75,
        (0.14, 0.1, 0.42, 0.12, 0.12, 0.1),
        (1, 4),
        0.4,
        0.7,
        5,
        (2, 8),
    ),
}
_SHARES = {"centre": 0.36, "boulevard": 0.27, "suburb": 0.22, "outskirts": 0.15}


def sample_district(rng: np.random.Generator) -> District:
    """Draw a part of town, the common ones more often."""
    return DISTRICTS[list(_SHARES)[weighted(rng, list(_SHARES.values()))]]
