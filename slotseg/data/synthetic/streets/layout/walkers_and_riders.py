"""People on foot and on two wheels, and two-wheelers that are parked."""

from __future__ import annotations

import math

from slotseg.data.synthetic.streets import ground, people
from slotseg.data.synthetic.streets.labels import ID
from slotseg.data.synthetic.streets.layout.draws import chance, uniform
from slotseg.data.synthetic.streets.layout.site import Site
from slotseg.data.synthetic.streets.palette import pick
from slotseg.data.synthetic.streets.scene import Face


def walk(site: Site) -> None:
    """Add people on foot, and stands of bicycles."""
    _add_walkers(site)
    _add_crowd(site)
    _add_bicycle_stands(site)


def ride(site: Site) -> None:
    """Add single two-wheelers, ridden and parked."""
    rng, plan = site.rng, site.plan
    for _ in range(int(rng.poisson(0.65))):
        right = chance(rng, 0.65)
        side = plan.sides[0 if right else 1]
        t = side.sign * (side.road - uniform(rng, 0.3, 1.2))
        z = 7.0 * (8.0 ** float(rng.random()))
        heading = (0.0 if right else math.pi) + float(rng.normal(0, 0.15))
        if plan.crossings and chance(rng, 0.4):
            near, away = plan.crossings[0]
            t, z = uniform(rng, -6, 6), uniform(rng, near, away)
            heading = pick(rng, (-1, 1)) * math.pi / 2 + float(rng.normal(0, 0.2))
        if z > plan.end - 3:
            continue
        _mount(site, (t, z), heading, motorized=chance(rng, 0.25), ridden=True)
    for _ in range(int(rng.poisson(1.1))):
        heading = float(rng.uniform(0, 2 * math.pi))
        _mount(site, _pavement_place(site, 6, 45), heading, chance(rng, 0.25), ridden=False)


def _pavement_place(site: Site, near: float = 6.0, far: float = 70.0) -> tuple[float, float]:
    rng, plan = site.rng, site.plan
    side = plan.sides[int(rng.integers(2))]
    inner = side.parking + 0.4
    outer = max(side.pavement, inner + 0.6)
    # Even in the picture rather than on the ground: many are far away.
    z = near * (min(far, plan.end - 3) / near) ** rng.random()
    return side.sign * uniform(rng, inner, outer), float(z)


def _add_walkers(site: Site) -> None:
    """People alone, in twos and in threes, some of them on their way across the road."""
    rng, plan = site.rng, site.plan
    busy = uniform(rng, 0.2, 4.0)
    for _ in range(int(rng.poisson(site.district.people * busy))):
        place = _pavement_place(site)
        if chance(rng, 0.12) and plan.crossings:
            right, left = plan.sides
            near = plan.crossings[0][0]
            place = (uniform(rng, -left.road, right.road), near - uniform(rng, 0.4, 3))
        company = 1 + (int(rng.integers(1, 3)) if chance(rng, 0.3) else 0)
        for k in range(company):
            spot = (place[0] + 0.55 * k, place[1] + uniform(rng, -0.4, 0.4))
            if spot[1] > 4:
                faces, _ = people.person(rng, spot, site.camera_t, site.light)
                site.add("person", faces, *spot)
                site.scene.shadows.append(ground.ground_shadow(spot, 0.3, 0.25))


def _add_crowd(site: Site) -> None:
    """Rarely, people too close together to be told apart."""
    rng = site.rng
    if not chance(rng, 0.05 + 0.03 * site.district.people):
        return
    t, z = _pavement_place(site, 12, 50)
    faces: list[Face] = []
    for _ in range(int(rng.integers(5, 14))):
        spot = (t + float(rng.normal(0, 0.9)), z + float(rng.normal(0, 0.6)))
        faces = people.person(rng, spot, site.camera_t, site.light)[0] + faces
    site.scene.add(ID["person"], faces, (t - 0.5, t + 0.5, z - 0.5, z + 0.5), crowd=True)


def _add_bicycle_stands(site: Site) -> None:
    """Bicycles side by side, which are one crowd."""
    rng = site.rng
    for _ in range(int(rng.poisson(0.7))):
        t, z = _pavement_place(site, 8, 45)
        parked: list[Face] = []
        count = int(rng.integers(4, 9)) if chance(rng, 0.6) else 1
        for k in range(count):
            spot = (t + uniform(rng, -0.2, 0.2), z + 0.6 * (count - k))
            heading = math.pi / 2 + float(rng.normal(0, 0.25))
            parked += people.bicycle(rng, spot, heading, site.camera_t, site.light)
        box = (t - 0.5, t + 0.5, z, z + 0.6 * count)
        site.scene.add(ID["bicycle"], parked, box, crowd=count > 1)


def _mount(
    site: Site, place: tuple[float, float], heading: float, motorized: bool, ridden: bool
) -> None:
    """Add one two-wheeler, with its rider if it is ridden."""
    rng, light, camera_t = site.rng, site.light, site.camera_t
    make = people.motorcycle if motorized else people.bicycle
    faces = make(rng, place, heading, camera_t, light)
    site.add("motorcycle" if motorized else "bicycle", faces, *place, 0.2)
    site.scene.shadows.append(ground.ground_shadow(place, 0.5, 0.5))
    if ridden:
        faces = people.rider(rng, place, heading, camera_t, light, motorized)
        # In front of the machine: the nearer leg hides it.
        site.add("rider", faces, place[0], place[1] - 0.05, 0.12)
