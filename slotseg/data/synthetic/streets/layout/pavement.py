"""What stands on the pavements: trees, lamps, posts, signs, signals and small things."""

from __future__ import annotations

from slotseg.data.synthetic.streets import furniture, ground, plants
from slotseg.data.synthetic.streets.layout.draws import chance, uniform
from slotseg.data.synthetic.streets.layout.plan import Side
from slotseg.data.synthetic.streets.layout.site import Site
from slotseg.data.synthetic.streets.palette import pick


def furnish(site: Site, side: Side) -> None:
    """Fill one side's pavement."""
    curb = side.parking + 0.5  # furniture keeps this distance from the road
    far = min(site.plan.end - 2, 110.0)
    _plant_trees(site, side.sign, curb, far)
    _set_lamps(site, side.sign, curb, far)
    _set_posts(site, side.sign, curb)
    _set_signs(site, side.sign, curb)
    _set_signals(site, side.sign, curb)
    _leave_things(site, side.sign, curb)


def _plant_trees(site: Site, s: int, curb: float, far: float) -> None:
    rng, light = site.rng, site.light
    if not chance(rng, site.district.trees):
        return
    z, step = uniform(rng, 4, 12), uniform(rng, 6, 14)
    while z < far:
        place = (s * (curb + uniform(rng, 0, 0.8)), z)
        if site.plan.gap_after(z) is None and not chance(rng, 0.15):
            faces, crown = plants.tree(rng, place, site.camera_t, light)
            site.add("vegetation", faces, *place)
            shift = -light.sun[[0, 2]] / max(light.sun[1], 0.3) * 4
            spot = (place[0] + float(shift[0]), place[1] + float(shift[1]))
            site.scene.shadows.append(ground.ground_shadow(spot, crown, crown))
        z += step * uniform(rng, 0.7, 1.4)


def _set_lamps(site: Site, s: int, curb: float, far: float) -> None:
    rng = site.rng
    z, step = uniform(rng, 3, 25), uniform(rng, 15, 32)
    if not chance(rng, 0.75):
        return
    while z < far:
        place = (s * curb, z)
        if site.plan.gap_after(z) is None:
            site.add("pole", furniture.street_lamp(rng, place, s, site.light), *place, 0.1)
        z += step


def _set_posts(site: Site, s: int, curb: float) -> None:
    """Single poles, and rows of bollards."""
    rng = site.rng
    for _ in range(int(rng.poisson(1.5))):
        place = (s * (curb - 0.1), uniform(rng, 5, 40))
        height = pick(rng, (0.9, 1.0, 3.0, 7.0))
        for k in range(4 if height < 2 else 1):
            spot = (place[0], place[1] + 1.6 * k)
            site.add("pole", furniture.pole(rng, spot, site.light, height, 0.07), *spot, 0.08)


def _set_signs(site: Site, s: int, curb: float) -> None:
    rng = site.rng
    for _ in range(int(rng.poisson(2.0))):
        place = (s * (curb + uniform(rng, -0.1, 0.9)), uniform(rng, 6, 60))
        supports, plates = furniture.traffic_sign(rng, place, site.light)
        site.add("pole", supports, *place, 0.1)
        site.add("traffic sign", plates, place[0], place[1] - 0.12, 0.1)


def _set_signals(site: Site, s: int, curb: float) -> None:
    """Traffic lights before and behind each side street, or nowhere on this side."""
    rng = site.rng
    signalled = chance(rng, 0.55)
    for near, away in site.plan.crossings if signalled else ():
        for z in (near - 2.5, away + 1.0):
            place = (s * curb, z)
            supports, boxes = furniture.traffic_light(rng, place, s, site.light)
            site.add("pole", supports, *place, 0.1)
            site.add("traffic light", boxes, place[0], place[1] - 0.12, 0.1)


def _leave_things(site: Site, s: int, curb: float) -> None:
    """Bins, boxes and the like; those that will be gone tomorrow are ``dynamic``."""
    rng = site.rng
    for _ in range(int(rng.poisson(1.2))):
        place = (s * (curb + uniform(rng, 0.2, 1.5)), uniform(rng, 6, 45))
        faces = furniture.static_thing(rng, place, site.camera_t, site.light)
        site.add("static", faces, *place, 0.4)
    for _ in range(int(rng.poisson(0.35))):
        place = (s * (curb + uniform(rng, 0.0, 1.5)), uniform(rng, 6, 40))
        faces = furniture.dynamic_thing(rng, place, site.camera_t, site.light)
        site.add("dynamic", faces, *place, 0.4)
