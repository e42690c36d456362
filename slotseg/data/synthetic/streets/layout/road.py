"""The ground of a street: road, pavements, verges, side streets and tram tracks."""

from __future__ import annotations

from dataclasses import dataclass

from slotseg.data.synthetic.streets import ground
from slotseg.data.synthetic.streets.labels import ID
from slotseg.data.synthetic.streets.layout.draws import chance, uniform, weighted
from slotseg.data.synthetic.streets.layout.markings import mark_road
from slotseg.data.synthetic.streets.layout.plan import Side
from slotseg.data.synthetic.streets.layout.site import Site
from slotseg.data.synthetic.streets.outlines import scaled
from slotseg.data.synthetic.streets.palette import MASONRY, PLANTS, paint, pick
from slotseg.data.synthetic.streets.scene import Color, Texture


@dataclass(frozen=True)
class _Materials:
    """What the ground is made of; colours with the light applied."""

    road: Color
    pavement: Color
    paving: Texture
    grass: Color
    outer: str  # class of the ground beyond the street


def lay_ground(site: Site) -> list[float]:
    """Add everything flat; returns t of the tram tracks."""
    materials = _sample_materials(site)
    plan = site.plan
    side_streets = list(plan.crossings)
    if plan.closed:  # the street ends in another one
        side_streets.append((plan.end - 9.0, plan.end - 1.0))
    _lay_surroundings(site, materials, side_streets)
    _lay_carriageway(site, materials)
    tracks = _lay_median(site, materials)
    for near, away in side_streets:
        strip = ground.cross_strip(near, away, materials.road, Texture.ASPHALT)
        site.scene.add(ID["road"], [strip])
    mark_road(site, materials.road)
    return tracks


def _sample_materials(site: Site) -> _Materials:
    rng, light = site.rng, site.light.shade((0, 1, 0))
    grey = uniform(rng, 0.30, 0.46)
    warm = uniform(rng, -0.015, 0.02)
    road: Color = scaled((grey + warm, grey, grey - warm), light)
    tone = uniform(rng, 0.85, 1.45)
    pavement = (
        scaled(road, tone) if chance(rng, 0.6) else scaled(paint(rng, MASONRY[1:8]), light * 0.85)
    )
    paving = Texture.PAVING if chance(rng, 0.65) else Texture.ASPHALT
    grass = scaled(paint(rng, PLANTS), light * 0.95)
    outer = "terrain" if site.district.edge[0] < 0.5 else pick(rng, ("sidewalk", "ground"))
    return _Materials(road, pavement, paving, grass, outer)


def _has_pavement(side: Side) -> bool:
    """Whether there is more than a curb."""
    return side.pavement > side.parking + 0.4


def _lay_surroundings(
    site: Site, materials: _Materials, side_streets: list[tuple[float, float]]
) -> None:
    """Everything outside of the carriageway."""
    add, far = site.scene.add, site.plan.end
    pavement, paving, grass = materials.pavement, materials.paving, materials.grass
    wild = materials.outer == "terrain"
    color = grass if wild else scaled(pavement, 0.95)
    texture = Texture.GRASS if wild else paving
    add(ID[materials.outer], [ground.cross_strip(1.2, 400.0, color, texture, -400, 400)])
    for side in site.plan.sides:
        s = side.sign
        if side.verge > side.pavement:
            edges = (s * side.pavement, s * side.verge)
            add(ID["terrain"], [ground.strip(*edges, grass, Texture.GRASS, far=far)])
        if _has_pavement(side):
            edges = (s * side.parking, s * side.pavement)
            add(ID["sidewalk"], [ground.strip(*edges, pavement, paving, far=far)])
    for near, away in side_streets:
        strip = ground.cross_strip(near - 3.0, away + 3.0, pavement, paving)
        add(ID["sidewalk"], [strip])


def _lay_carriageway(site: Site, materials: _Materials) -> None:
    """Lanes, parking lanes and curbs."""
    rng, add, far = site.rng, site.scene.add, site.plan.end
    right, left = site.plan.sides
    road = materials.road
    add(ID["road"], [ground.strip(-left.road, right.road, road, Texture.ASPHALT, far=far)])
    for side in site.plan.sides:
        if side.parking > side.road:
            cobbled = chance(rng, 0.4)
            color = scaled(road, uniform(rng, 0.85, 1.2)) if cobbled else road
            texture = Texture.PAVING if cobbled else Texture.ASPHALT
            name = "parking" if cobbled else "road"
            edges = (side.sign * side.road, side.sign * side.parking)
            add(ID[name], [ground.strip(*edges, color, texture, far=far)])
        curb = side.sign * side.parking
        stone = scaled(materials.pavement, 1.2)
        strip = ground.strip(curb, curb + side.sign * 0.16, stone, Texture.ASPHALT, far=far)
        add(ID["sidewalk" if _has_pavement(side) else "road"], [strip])


def _lay_median(site: Site, materials: _Materials) -> list[float]:
    """The strip between the directions, and tracks in it or in the lanes; returns their t."""
    rng, plan, add, far = site.rng, site.plan, site.scene.add, site.plan.end
    road, grass = materials.road, materials.grass
    tracks: list[float] = []
    right = plan.center
    left = plan.center - plan.median
    if plan.median:
        kind = weighted(rng, [0.35, 0.25, 0.4])
        if kind == 2 or plan.median > 5.5:
            color = scaled(grass if kind else road, 0.9)
            add(ID["rail track"], [ground.strip(left, right, color, Texture.GRASS, far=far)])
            tracks = [(left + right) / 2]
        elif kind == 1:
            bed = ground.strip(left, right, materials.pavement, Texture.PAVING, far=far)
            add(ID["sidewalk"], [bed])
        else:
            add(ID["terrain"], [ground.strip(left, right, grass, Texture.GRASS, far=far)])
    elif chance(rng, 0.12):
        tracks = [lane for lane, _ in plan.lanes][:2]
    for t in tracks:
        rails = [
            ground.strip(t + x - 0.05, t + x + 0.05, scaled(road, 0.55), Texture.NONE, far=far)
            for x in (-0.72, 0.72)
        ]
        add(ID["rail track" if plan.median else "road"], rails)
    return tracks
