"""Vehicles: in the lanes, in side streets, on tracks and parked."""

from __future__ import annotations

import math
from collections.abc import Sequence

from slotseg.data.synthetic.streets import ground, vehicles
from slotseg.data.synthetic.streets.labels import ID
from slotseg.data.synthetic.streets.layout.draws import chance, uniform, weighted
from slotseg.data.synthetic.streets.layout.site import Site
from slotseg.data.synthetic.streets.outlines import Solid
from slotseg.data.synthetic.streets.palette import pick

_MAKERS = {
    "car": vehicles.car,
    "truck": vehicles.truck,
    "bus": vehicles.bus,
    "train": vehicles.train,
    "caravan": vehicles.caravan,
    "trailer": vehicles.trailer,
}
#: Share of every kind among moving vehicles.
_MOVING = {"car": 0.898, "truck": 0.045, "bus": 0.045, "caravan": 0.004, "trailer": 0.008}


def drive(site: Site, tracks: Sequence[float]) -> None:
    """Add trams on the tracks at these t, and what moves in the lanes and in side streets."""
    taken = _run_trams(site, tracks)
    _fill_lanes(site, taken)
    for near, away in site.plan.crossings:
        _cross(site, near * 0.72 + away * 0.28, math.pi / 2)
        _cross(site, near * 0.28 + away * 0.72, -math.pi / 2)


def _run_trams(site: Site, tracks: Sequence[float]) -> dict[int, float]:
    """Perhaps add a tram; returns where the lanes that it blocks are free again."""
    rng, plan = site.rng, site.plan
    if not tracks or not chance(rng, 0.55):
        return {}
    t = pick(rng, tracks)
    z = uniform(rng, 32, 50) if abs(t) < 1.5 else uniform(rng, 24, 60)
    if z + 18 > plan.end:
        return {}
    length = _add_vehicle(site, "train", (t, z), 0.0)
    return {k: z + length / 2 + 4 for k, (lane, _) in enumerate(plan.lanes) if abs(lane - t) < 1.5}


def _fill_lanes(site: Site, taken: dict[int, float]) -> None:
    """Vehicles one behind the other; in lane k not before z = ``taken[k]``."""
    rng, plan = site.rng, site.plan
    density = site.district.traffic * uniform(rng, 0.2, 1.7) / max(len(plan.lanes), 1)
    for number, (t, heading) in enumerate(plan.lanes):
        own = abs(t) < 1
        # Drawn behind a tram too, though not used there: the draws that follow stay the same.
        first = uniform(rng, 9, 40) if own else uniform(rng, 2, 35)
        z = taken.get(number, first)
        for _ in range(int(rng.poisson(density))):
            kind = _moving_kind(site)
            reach = {"car": 2.6, "truck": 5.5, "bus": 6.5}.get(kind, 3)
            z += reach
            if z > plan.end - 12:
                break
            wobble = float(rng.normal(0, 0.2))
            _add_vehicle(site, kind, (t + wobble, z), heading + float(rng.normal(0, 0.02)))
            z += reach + uniform(rng, 2, 22) * (0.4 if chance(rng, 0.3) else 1.0)


def _cross(site: Site, z: float, heading: float) -> None:
    """Vehicles in one lane of a side street."""
    rng = site.rng
    t = uniform(rng, -25, -4)
    for _ in range(int(rng.poisson(0.7))):
        kind = _moving_kind(site)
        if not (kind != "car" and z < 20):  # a large one so near would fill the picture
            _add_vehicle(site, kind, (t, z), heading + float(rng.normal(0, 0.1)))
        t += uniform(rng, 9, 22)


def park(site: Site) -> None:
    """Fill the parking lanes."""
    rng, plan = site.rng, site.plan
    for side in plan.sides:
        if side.parking <= side.road:
            continue
        t = side.sign * (side.road + side.parking) / 2
        z = uniform(rng, -2, 8)
        fill = uniform(rng, 0.35, 0.95)
        slanted = side.pavement - side.parking > 2.5 and chance(rng, 0.12)
        while z < min(plan.end - 4, 100):
            skip = plan.gap_after(z) or plan.gap_after(z + 3)
            if skip is not None:
                z = skip + 3
                continue
            if chance(rng, fill):
                kind = "car" if chance(rng, 0.97) else pick(rng, ("truck", "trailer", "caravan"))
                heading = (0.0 if side.sign > 0 or chance(rng, 0.3) else math.pi) + float(
                    rng.normal(0, 0.02)
                )
                if slanted:
                    heading = side.sign * math.pi / 2 + float(rng.normal(0, 0.04))
                reach = {"truck": 4.5}.get(kind, 0.0)
                z += reach
                # Rows of parked cars far away are not told apart.
                crowd = z > 75 and kind == "car"
                where = (
                    t + side.sign * (1.2 if slanted else 0) + float(rng.normal(0, 0.08)),
                    z,
                )
                _add_vehicle(site, kind, where, heading, crowd)
                z += reach
            z += uniform(rng, 2.5, 3.2) if slanted else uniform(rng, 5.4, 6.8)


def _add_vehicle(
    site: Site, kind: str, place: tuple[float, float], heading: float, crowd: bool = False
) -> float:
    """Add a vehicle; returns its length."""
    # Bends turn the street's direction as well; the projection shears, which looks the same.
    solid = Solid(place, heading, (site.camera_t, site.scene.camera.height), site.light)
    length = _MAKERS[kind](site.rng, solid, place[1] < vehicles.DETAIL_DISTANCE)
    half_t = abs(math.sin(heading)) * length / 2 + abs(math.cos(heading)) * 0.95
    half_z = abs(math.cos(heading)) * length / 2 + abs(math.sin(heading)) * 0.95
    t, z = place
    box = (t - half_t, t + half_t, z - half_z, z + half_z)
    site.scene.add(ID[kind], solid.faces, box, crowd)
    site.scene.shadows.append(ground.ground_shadow(place, half_t * 1.12, half_z * 1.08))
    return length


def _moving_kind(site: Site) -> str:
    return list(_MOVING)[weighted(site.rng, list(_MOVING.values()))]
