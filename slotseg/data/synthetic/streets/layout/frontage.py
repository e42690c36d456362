"""What lines a street: buildings, houses and their gardens, walls, fences and woods."""

from __future__ import annotations

import numpy as np

from slotseg.data.synthetic.streets import buildings, ground, plants
from slotseg.data.synthetic.streets.labels import ID
from slotseg.data.synthetic.streets.layout.draws import chance, uniform, weighted
from slotseg.data.synthetic.streets.layout.plan import Side
from slotseg.data.synthetic.streets.layout.site import Site


def cast_building_shadows(site: Site) -> None:
    """Add shadows from the side that the sun is behind; heights need not match its buildings."""
    rng, sun = site.rng, site.light.sun
    if site.light.direct < 0.2:
        return
    for side in site.plan.sides:
        if sun[0] * side.sign < 0.1:  # the sun is not behind this side's buildings
            continue
        z = uniform(rng, -15, 5)
        while z < 90:
            length = uniform(rng, 8, 30)
            height = uniform(rng, 3, 16)
            line = np.array([(side.sign * side.line, z), (side.sign * side.line, z + length)])
            site.scene.shadows.append(ground.cast_shadow(line, height, sun))
            z += length + (uniform(rng, 1, 12) if chance(rng, 0.6) else 0)


def close_view(site: Site) -> None:
    """Add what stands at the far end."""
    rng, plan, scene = site.rng, site.plan, site.scene
    shade = site.light.shade((0, 0.3, -0.9))
    wood = plants.distant_wood(rng, 240.0, shade)
    scene.add(ID["vegetation"], wood, (-400, 400, 239, 241))
    if not plan.closed:
        return
    t = -45.0
    while t < 45:
        width = uniform(rng, 9, 20)
        z = plan.end + uniform(rng, 0, 2)
        if chance(rng, 0.8):
            style = buildings.sample_style(rng, int(rng.integers(2, 6)), False)
            faces = buildings.front(rng, style, (t, z), (1.0, 0.0), width, shade, True)
            scene.add(ID["building"], faces, (t, t + width, z, z + 8))
        else:
            for _ in range(3):
                place = (t + uniform(rng, 0, width), z + uniform(rng, 1, 3))
                faces, _ = plants.tree(rng, place, site.camera_t, site.light)
                site.add("vegetation", faces, *place, 0.3)
        t += width + uniform(rng, 0, 1.5)


def line_street(site: Site, side: Side) -> None:
    """Line one side with plots from before the camera to the street's end."""
    rng, plan = site.rng, site.plan
    z = -8.0
    far = min(plan.end, 150.0)
    kind = weighted(rng, site.district.edge)
    style_storeys = int(rng.integers(site.district.storeys[0], site.district.storeys[1] + 1))
    while z < far:
        skip = plan.gap_after(z)
        if skip is not None:
            z = skip
            continue
        length = uniform(rng, 8, 20) * (1.0 if z < 60 else 1.8)
        upcoming = [near - 3.0 for near, _ in plan.crossings if near - 3.0 > z]
        stop = min([z + length, far, *upcoming])
        if stop - z < 2.0:
            z = stop + 0.01
            continue
        if chance(rng, 0.45):
            kind = weighted(rng, site.district.edge)
        storeys = max(1, style_storeys + int(rng.integers(-1, 2)))
        _place_plot(site, side, kind, z, stop, storeys)
        z = stop + (0.0 if kind == 0 and chance(rng, 0.8) else uniform(rng, 0.5, 4))


def _place_plot(site: Site, side: Side, kind: int, z: float, stop: float, storeys: int) -> None:
    """Fill ``z`` to ``stop`` with a kind of :attr:`District.edge`."""
    if kind in (0, 1):
        _place_building(site, side, z, stop, storeys, house=kind == 1)
    elif kind == 2:
        _place_wood(site, side, z, stop)
    elif kind in (3, 4):
        _place_barrier(site, side, z, stop, "wall" if kind == 3 else "fence")
    else:
        _place_open_ground(site, side, z, stop)


def _along(site: Site, side: Side) -> float:
    """Brightness of upright faces towards the street."""
    return site.light.shade((-side.sign, 0, 0))


def _place_building(
    site: Site, side: Side, z: float, stop: float, storeys: int, house: bool
) -> None:
    rng, t = site.rng, side.sign * side.line
    depth = uniform(rng, 8, 11) if house else uniform(rng, 10, 26)
    style = buildings.sample_style(rng, min(storeys, 3) if house else storeys, house)
    back = t + side.sign * depth
    faces = buildings.building(
        rng, side.sign, t, (z, stop), depth, style, site.light, site.camera_t
    )
    site.scene.add(ID["building"], faces, (min(t, back), max(t, back), z, stop))
    if house and side.line - side.verge > 1.5:
        _plant_front_garden(site, side, z, stop)


def _place_wood(site: Site, side: Side, z: float, stop: float) -> None:
    rng, t = site.rng, side.sign * side.line
    if chance(rng, 0.5):
        height = uniform(rng, 1.0, 2.2) if chance(rng, 0.5) else uniform(rng, 3, 8)
        faces = plants.hedge(rng, (t, z), stop - z, _along(site, side), height)
        site.scene.add(ID["vegetation"], faces, (t - 0.1, t + 0.1, z, stop))
    for _ in range(int((stop - z) / 4) + 1):
        place = (t + side.sign * uniform(rng, 1, 9), uniform(rng, z, stop))
        if place[1] > 3:
            faces, _ = plants.tree(rng, place, site.camera_t, site.light)
            site.add("vegetation", faces, *place)


def _place_barrier(site: Site, side: Side, z: float, stop: float, name: str) -> None:
    """A wall or a fence, often with trees behind it."""
    rng, edge = site.rng, side.sign * (side.verge + 0.15)
    make = {"wall": buildings.wall, "fence": buildings.fence}[name]
    faces = make(rng, (edge, z), (edge, stop), _along(site, side))
    site.scene.add(ID[name], faces, (edge - 0.1, edge + 0.1, z, stop))
    if chance(rng, 0.6):
        for _ in range(int((stop - z) / 5) + 1):
            place = (edge + side.sign * uniform(rng, 2, 8), uniform(rng, z, stop))
            if place[1] > 3:
                faces, _ = plants.tree(rng, place, site.camera_t, site.light)
                site.add("vegetation", faces, *place)


def _place_open_ground(site: Site, side: Side, z: float, stop: float) -> None:
    """Perhaps a guard rail, and bushes."""
    rng, t = site.rng, side.sign * side.line
    if chance(rng, 0.5):
        rail_t = side.sign * (side.parking + 0.3)
        faces = buildings.guard_rail((rail_t, z), (rail_t, stop), _along(site, side))
        site.scene.add(ID["guard rail"], faces, (rail_t - 0.1, rail_t + 0.1, z, stop))
    for _ in range(int(rng.integers(0, 4))):
        place = (t + side.sign * uniform(rng, 0, 10), uniform(rng, z, stop))
        if place[1] > 4:
            faces = plants.bush(rng, place, site.camera_t, site.light)
            site.add("vegetation", faces, *place, 0.5)


def _plant_front_garden(site: Site, side: Side, z: float, stop: float) -> None:
    rng, light = site.rng, site.light
    edge, along = side.sign * (side.verge + 0.1), _along(site, side)
    box = (edge - 0.1, edge + 0.1, z, stop)
    kind = weighted(rng, [0.35, 0.2, 0.25, 0.2])
    if kind == 0:
        site.scene.add(ID["fence"], buildings.fence(rng, (edge, z), (edge, stop), along), box)
    elif kind == 1:
        site.scene.add(ID["wall"], buildings.wall(rng, (edge, z), (edge, stop), along), box)
    elif kind == 2:
        faces = plants.hedge(rng, (edge, z), stop - z, along, uniform(rng, 0.8, 1.8))
        site.scene.add(ID["vegetation"], faces, box)
    for _ in range(int(rng.integers(0, 4))):
        place = (
            side.sign * uniform(rng, side.verge + 0.8, side.line - 0.3),
            uniform(rng, z, stop),
        )
        if place[1] > 4:
            if chance(rng, 0.7):
                faces = plants.bush(rng, place, site.camera_t, light)
            else:
                faces, _ = plants.tree(rng, place, site.camera_t, light)
            site.add("vegetation", faces, *place, 0.4)
