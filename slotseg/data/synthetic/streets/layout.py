"""Draws whole street scenes: which things stand where.

The street runs along z. From its middle outwards there are lanes, perhaps a parking lane, the
pavement with its furniture, perhaps a verge, and the line of buildings, walls, fences and trees.
Side streets interrupt all of that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from slotseg.data.synthetic.streets import buildings, furniture, ground, people, plants, vehicles
from slotseg.data.synthetic.streets.climate import (
    CAMERA_STYLES,
    sample_camera,
    sample_climate,
    sample_frame,
)
from slotseg.data.synthetic.streets.labels import ID
from slotseg.data.synthetic.streets.outlines import Solid, scaled
from slotseg.data.synthetic.streets.palette import MASONRY, PLANTS, paint, pick
from slotseg.data.synthetic.streets.scene import Color, Face, StreetScene, Texture

_LANE = 3.3


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
_DISTRICT_WEIGHTS = {"centre": 0.36, "boulevard": 0.27, "suburb": 0.22, "outskirts": 0.15}


@dataclass
class _Side:
    """Lateral positions of one side, as distances from t = 0 (all positive outwards)."""

    sign: int
    road: float
    parking: float  # outer edge of the parking lane, equal to ``road`` without one
    pavement: float
    verge: float
    line: float  # where buildings begin


def sample_street(seed: int, index: int, style: str = "cityscapes") -> StreetScene:
    """Draw scene ``index`` of a seed, as seen by the cars of a data set's ``style``."""
    rng = np.random.default_rng([seed, index])
    return _Street(rng, style).build()


class _Street:
    def __init__(self, rng: np.random.Generator, style: str) -> None:
        self.rng = rng
        camera_style = CAMERA_STYLES[style]
        camera = sample_camera(rng, camera_style)
        light, weather = sample_climate(rng, camera_style)
        self.scene = StreetScene(camera, light, weather, int(rng.integers(1 << 20)))
        self.scene.frame.extend(sample_frame(rng, camera_style))
        self.camera_t = camera.lateral
        self.light = light
        names = list(_DISTRICT_WEIGHTS)
        self.district = DISTRICTS[names[self._weighted(list(_DISTRICT_WEIGHTS.values()))]]
        self.brightness = light.shade((0, 1, 0))

    # helpers

    def _weighted(self, weights: list[float]) -> int:
        total = np.cumsum(weights)
        return int(np.searchsorted(total, self.rng.random() * total[-1], side="right"))

    def _chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def _uniform(self, low: float, high: float) -> float:
        return float(low + (high - low) * self.rng.random())

    def _add(self, name: str, faces: list[Face], t: float, z: float, half: float = 0.25) -> None:
        """Add a small upright thing at a place; crowd is drawn by :meth:`_add_group`."""
        self.scene.add(ID[name], faces, (t - half, t + half, z - half, z + half))

    # the street

    def build(self) -> StreetScene:
        """Draw everything."""
        rng, district = self.rng, self.district
        lanes_right = int(rng.integers(1, district.lanes[1] + 1))
        lanes_left = int(rng.integers(district.lanes[0], district.lanes[1] + 1))
        lane = int(rng.integers(lanes_right))
        self.median = (
            self._uniform(1.5, 6.5) if self._chance(0.3 if lanes_left > 1 else 0.06) else 0.0
        )
        # t = 0 is the middle of the camera's lane.
        self.center = -(lane + 0.5) * _LANE
        self.lanes = [(self.center + (k + 0.5) * _LANE, 0.0) for k in range(lanes_right)]
        left_edge = self.center - self.median
        self.lanes += [(left_edge - (k + 0.5) * _LANE, math.pi) for k in range(lanes_left)]
        self.sides = [
            self._sample_side(1, self.center + lanes_right * _LANE),
            self._sample_side(-1, -(left_edge - lanes_left * _LANE)),
        ]
        self.crossings: list[tuple[float, float]] = []
        where = self._uniform(9, 45)
        for _ in range(self._weighted([0.4, 0.4, 0.2])):
            width = self._uniform(6, 13)
            self.crossings.append((where, where + width))
            where += width + self._uniform(25, 60)
        self.end = self._uniform(30, 70) if self._chance(0.14) else 170.0
        self._lay_ground()
        self._close_view()
        for side in self.sides:
            self._line_street(side)
            self._furnish(side)
        self._park()
        self._drive()
        self._walk()
        self._ride()
        return self.scene

    def _sample_side(self, sign: int, road: float) -> _Side:
        district = self.district
        parking = road + (2.2 if self._chance(district.parking) else 0.0)
        low, high = district.pavement
        pavement = parking + self._uniform(low, high)
        verge = pavement + (self._uniform(0.8, 5.0) if self._chance(district.verge) else 0.0)
        return _Side(sign, road, parking, pavement, verge, verge + self._uniform(*district.setback))

    def _lay_ground(self) -> None:
        rng, light = self.rng, self.brightness
        grey = self._uniform(0.30, 0.46)
        warm = self._uniform(-0.015, 0.02)
        road: Color = scaled((grey + warm, grey, grey - warm), light)
        tone = self._uniform(0.85, 1.45)
        pavement = (
            scaled(road, tone)
            if self._chance(0.6)
            else scaled(paint(rng, MASONRY[1:8]), light * 0.85)
        )
        paving = Texture.PAVING if self._chance(0.65) else Texture.ASPHALT
        grass = scaled(paint(rng, PLANTS), light * 0.95)
        outer = "terrain" if self.district.edge[0] < 0.5 else pick(rng, ("sidewalk", "ground"))
        add = self.scene.add
        outer_color = grass if outer == "terrain" else scaled(pavement, 0.95)
        outer_texture = Texture.GRASS if outer == "terrain" else paving
        add(ID[outer], [ground.cross_strip(1.2, 400.0, outer_color, outer_texture, -400, 400)])
        far = self.end
        for side in self.sides:
            s = side.sign
            if side.verge > side.pavement:
                strip = ground.strip(
                    s * side.pavement, s * side.verge, grass, Texture.GRASS, far=far
                )
                add(ID["terrain"], [strip])
            if side.pavement > side.parking + 0.4:
                strip = ground.strip(s * side.parking, s * side.pavement, pavement, paving, far=far)
                add(ID["sidewalk"], [strip])
        cross_far = [*self.crossings] + (
            [(self.end - 9.0, self.end - 1.0)] if self.end < 100 else []
        )
        for near, away in cross_far:
            strip = ground.cross_strip(near - 3.0, away + 3.0, pavement, paving)
            add(ID["sidewalk"], [strip])
        # The carriageway.
        right, left = self.sides
        add(ID["road"], [ground.strip(-left.road, right.road, road, Texture.ASPHALT, far=far)])
        for side in self.sides:
            if side.parking > side.road:
                cobbled = self._chance(0.4)
                color = scaled(road, self._uniform(0.85, 1.2)) if cobbled else road
                texture = Texture.PAVING if cobbled else Texture.ASPHALT
                name = "parking" if cobbled else "road"
                edges = (side.sign * side.road, side.sign * side.parking)
                add(ID[name], [ground.strip(*edges, color, texture, far=far)])
            curb = side.sign * side.parking
            stone = scaled(pavement, 1.2)
            strip = ground.strip(curb, curb + side.sign * 0.16, stone, Texture.ASPHALT, far=far)
            add(ID["sidewalk" if side.pavement > side.parking + 0.4 else "road"], [strip])
        self._lay_median(road, pavement, grass, far)
        for near, away in cross_far:
            add(ID["road"], [ground.cross_strip(near, away, road, Texture.ASPHALT)])
        self._mark_road(road, far)
        self._cast_building_shadows()

    def _lay_median(self, road: Color, pavement: Color, grass: Color, far: float) -> None:
        self.tracks: list[float] = []
        right = self.center
        left = self.center - self.median
        if self.median:
            kind = self._weighted([0.35, 0.25, 0.4])
            if kind == 2 or self.median > 5.5:
                bed = ground.strip(
                    left, right, scaled(grass if kind else road, 0.9), Texture.GRASS, far=far
                )
                self.scene.add(ID["rail track"], [bed])
                self.tracks = [(left + right) / 2]
            elif kind == 1:
                bed = ground.strip(left, right, pavement, Texture.PAVING, far=far)
                self.scene.add(ID["sidewalk"], [bed])
            else:
                bed = ground.strip(left, right, grass, Texture.GRASS, far=far)
                self.scene.add(ID["terrain"], [bed])
        elif self._chance(0.12):
            self.tracks = [lane for lane, _ in self.lanes][:2]
        for t in self.tracks:
            rails = [
                ground.strip(t + x - 0.05, t + x + 0.05, scaled(road, 0.55), Texture.NONE, far=far)
                for x in (-0.72, 0.72)
            ]
            self.scene.add(ID["rail track" if self.median else "road"], rails)

    def _mark_road(self, road: Color, far: float) -> None:
        marks: list[Face] = []
        bright = self.brightness * self._uniform(0.6, 1.05)
        lanes = sorted(t for t, _ in self.lanes)
        stops = [1.5, *[edge for pair in self.crossings for edge in pair], far]
        marked = self._chance(0.85)
        for begin, stop in zip(stops[::2], stops[1::2], strict=True):
            if stop - begin < 4 or not marked:
                continue
            for a, b in zip(lanes, lanes[1:], strict=False):
                if b - a < _LANE + 0.5:
                    solid = self._chance(0.15)
                    t = (a + b) / 2
                    marks.append(
                        ground.line(t, begin, stop - 3.5, bright)
                        if solid
                        else ground.dashes(t, begin + self._uniform(0, 3), stop - 4, bright)
                    )
            if self._chance(0.4):
                for side in self.sides:
                    edge = side.sign * (side.road - 0.2)
                    marks.append(ground.line(edge, begin, stop - 3.5, bright))
        right, left = self.sides
        for near, _ in self.crossings:
            if self._chance(0.5):
                marks.append(ground.zebra(-left.road, right.road, near - 3.2, bright))
            elif self._chance(0.5):
                marks.append(
                    ground.cross_strip(
                        near - 1.4,
                        near - 1.0,
                        scaled((0.74,) * 3, bright),
                        Texture.ASPHALT,
                        self.center,
                        right.road,
                    )
                )
        for _ in range(int(self.rng.integers(0, 5))):  # repairs and manholes
            t = self._uniform(-left.road, right.road - 1)
            z, wide, long = self._uniform(4, 30), self._uniform(0.5, 2), self._uniform(0.7, 5)
            corners = np.array([(t, z), (t + wide, z), (t + wide, z + long), (t, z + long)])
            marks.append(ground.patch(corners, scaled(road, self._uniform(0.72, 1.15))))
        if marks:
            self.scene.add(ID["road"], marks)

    def _cast_building_shadows(self) -> None:
        sun = self.light.sun
        if self.light.direct < 0.2:
            return
        for side in self.sides:
            if sun[0] * side.sign < 0.1:  # the sun is not behind this side's buildings
                continue
            z = self._uniform(-15, 5)
            while z < 90:
                length = self._uniform(8, 30)
                height = self._uniform(3, 16)
                line = np.array([(side.sign * side.line, z), (side.sign * side.line, z + length)])
                self.scene.shadows.append(ground.cast_shadow(line, height, sun))
                z += length + (self._uniform(1, 12) if self._chance(0.6) else 0)

    # beside the street

    def _close_view(self) -> None:
        """What stands at the far end."""
        shade = self.light.shade((0, 0.3, -0.9))
        scene = self.scene
        wood = plants.distant_wood(self.rng, 240.0, shade)
        scene.add(ID["vegetation"], wood, (-400, 400, 239, 241))
        if self.end > 100:
            return
        t = -45.0
        while t < 45:
            width = self._uniform(9, 20)
            z = self.end + self._uniform(0, 2)
            if self._chance(0.8):
                style = buildings.sample_style(self.rng, int(self.rng.integers(2, 6)), False)
                faces = buildings.front(self.rng, style, (t, z), (1.0, 0.0), width, shade, True)
                scene.add(ID["building"], faces, (t, t + width, z, z + 8))
            else:
                for _ in range(3):
                    place = (t + self._uniform(0, width), z + self._uniform(1, 3))
                    faces, crown = plants.tree(self.rng, place, self.camera_t, self.light)
                    self._add("vegetation", faces, *place, 0.3)
            t += width + self._uniform(0, 1.5)

    def _gap_after(self, z: float) -> float | None:
        """End of the side street that ``z`` lies in, if any."""
        for near, away in self.crossings:
            if near - 3.0 <= z < away + 3.0:
                return away + 3.0
        return None

    def _line_street(self, side: _Side) -> None:
        rng = self.rng
        z = -8.0
        far = min(self.end, 150.0)
        kind = self._weighted(list(self.district.edge))
        style_storeys = int(rng.integers(self.district.storeys[0], self.district.storeys[1] + 1))
        while z < far:
            skip = self._gap_after(z)
            if skip is not None:
                z = skip
                continue
            length = self._uniform(8, 20) * (1.0 if z < 60 else 1.8)
            upcoming = [near - 3.0 for near, _ in self.crossings if near - 3.0 > z]
            stop = min([z + length, far, *upcoming])
            if stop - z < 2.0:
                z = stop + 0.01
                continue
            if self._chance(0.45):
                kind = self._weighted(list(self.district.edge))
            storeys = max(1, style_storeys + int(rng.integers(-1, 2)))
            self._place_plot(side, kind, z, stop, storeys)
            z = stop + (0.0 if kind == 0 and self._chance(0.8) else self._uniform(0.5, 4))

    def _place_plot(self, side: _Side, kind: int, z: float, stop: float, storeys: int) -> None:
        rng, light, scene = self.rng, self.light, self.scene
        t = side.sign * side.line
        along = light.shade((-side.sign, 0, 0))
        edge = side.sign * (side.verge + 0.15)
        if kind in (0, 1):
            house = kind == 1
            depth = self._uniform(8, 11) if house else self._uniform(10, 26)
            style = buildings.sample_style(rng, min(storeys, 3) if house else storeys, house)
            back = t + side.sign * depth
            faces = buildings.building(
                rng, side.sign, t, (z, stop), depth, style, light, self.camera_t
            )
            scene.add(ID["building"], faces, (min(t, back), max(t, back), z, stop))
            if house and side.line - side.verge > 1.5:
                self._front_garden(side, z, stop, along)
            return
        if kind == 2:
            if self._chance(0.5):
                height = self._uniform(1.0, 2.2) if self._chance(0.5) else self._uniform(3, 8)
                faces = plants.hedge(rng, (t, z), stop - z, along, height)
                scene.add(ID["vegetation"], faces, (t - 0.1, t + 0.1, z, stop))
            for _ in range(int((stop - z) / 4) + 1):
                place = (t + side.sign * self._uniform(1, 9), self._uniform(z, stop))
                if place[1] > 3:
                    faces, _ = plants.tree(rng, place, self.camera_t, light)
                    self._add("vegetation", faces, *place)
            return
        if kind in (3, 4):
            make = buildings.wall if kind == 3 else buildings.fence
            name = "wall" if kind == 3 else "fence"
            scene.add(
                ID[name],
                make(rng, (edge, z), (edge, stop), along),
                (edge - 0.1, edge + 0.1, z, stop),
            )
            if self._chance(0.6):
                for _ in range(int((stop - z) / 5) + 1):
                    place = (edge + side.sign * self._uniform(2, 8), self._uniform(z, stop))
                    if place[1] > 3:
                        faces, _ = plants.tree(rng, place, self.camera_t, light)
                        self._add("vegetation", faces, *place)
            return
        if self._chance(0.5):
            rail_t = side.sign * (side.parking + 0.3)
            faces = buildings.guard_rail((rail_t, z), (rail_t, stop), along)
            scene.add(ID["guard rail"], faces, (rail_t - 0.1, rail_t + 0.1, z, stop))
        for _ in range(int(rng.integers(0, 4))):
            place = (t + side.sign * self._uniform(0, 10), self._uniform(z, stop))
            if place[1] > 4:
                self._add("vegetation", plants.bush(rng, place, self.camera_t, light), *place, 0.5)

    def _front_garden(self, side: _Side, z: float, stop: float, along: float) -> None:
        rng, light = self.rng, self.light
        edge = side.sign * (side.verge + 0.1)
        box = (edge - 0.1, edge + 0.1, z, stop)
        kind = self._weighted([0.35, 0.2, 0.25, 0.2])
        if kind == 0:
            self.scene.add(ID["fence"], buildings.fence(rng, (edge, z), (edge, stop), along), box)
        elif kind == 1:
            self.scene.add(ID["wall"], buildings.wall(rng, (edge, z), (edge, stop), along), box)
        elif kind == 2:
            faces = plants.hedge(rng, (edge, z), stop - z, along, self._uniform(0.8, 1.8))
            self.scene.add(ID["vegetation"], faces, box)
        for _ in range(int(rng.integers(0, 4))):
            place = (
                side.sign * self._uniform(side.verge + 0.8, side.line - 0.3),
                self._uniform(z, stop),
            )
            if place[1] > 4:
                if self._chance(0.7):
                    faces = plants.bush(rng, place, self.camera_t, light)
                else:
                    faces, _ = plants.tree(rng, place, self.camera_t, light)
                self._add("vegetation", faces, *place, 0.4)

    def _furnish(self, side: _Side) -> None:
        """Trees, lamps, signs, signals and small things on the pavement."""
        rng, light, s = self.rng, self.light, side.sign
        far = min(self.end - 2, 110.0)
        curb = side.parking + 0.5
        if self._chance(self.district.trees):
            z, step = self._uniform(4, 12), self._uniform(6, 14)
            while z < far:
                place = (s * (curb + self._uniform(0, 0.8)), z)
                if self._gap_after(z) is None and not self._chance(0.15):
                    faces, crown = plants.tree(rng, place, self.camera_t, light)
                    self._add("vegetation", faces, *place)
                    shift = -light.sun[[0, 2]] / max(light.sun[1], 0.3) * 4
                    spot = (place[0] + float(shift[0]), place[1] + float(shift[1]))
                    self.scene.shadows.append(ground.ground_shadow(spot, crown, crown))
                z += step * self._uniform(0.7, 1.4)
        z, step = self._uniform(3, 25), self._uniform(15, 32)
        if self._chance(0.75):
            while z < far:
                place = (s * curb, z)
                if self._gap_after(z) is None:
                    self._add("pole", furniture.street_lamp(rng, place, s, light), *place, 0.1)
                z += step
        for _ in range(int(rng.poisson(1.5))):  # bollards and posts
            place = (s * (curb - 0.1), self._uniform(5, 40))
            height = pick(rng, (0.9, 1.0, 3.0, 7.0))
            for k in range(4 if height < 2 else 1):
                spot = (place[0], place[1] + 1.6 * k)
                self._add("pole", furniture.pole(rng, spot, light, height, 0.07), *spot, 0.08)
        for _ in range(int(rng.poisson(2.0))):
            place = (s * (curb + self._uniform(-0.1, 0.9)), self._uniform(6, 60))
            supports, plates = furniture.traffic_sign(rng, place, light)
            self._add("pole", supports, *place, 0.1)
            self._add("traffic sign", plates, place[0], place[1] - 0.12, 0.1)
        signalled = self._chance(0.55)
        for near, away in self.crossings if signalled else []:
            for z in (near - 2.5, away + 1.0):
                place = (s * curb, z)
                supports, boxes = furniture.traffic_light(rng, place, s, light)
                self._add("pole", supports, *place, 0.1)
                self._add("traffic light", boxes, place[0], place[1] - 0.12, 0.1)
        for _ in range(int(rng.poisson(1.2))):
            place = (s * (curb + self._uniform(0.2, 1.5)), self._uniform(6, 45))
            faces = furniture.static_thing(rng, place, self.camera_t, light)
            self._add("static", faces, *place, 0.4)
        for _ in range(int(rng.poisson(0.35))):
            place = (s * (curb + self._uniform(0.0, 1.5)), self._uniform(6, 40))
            faces = furniture.dynamic_thing(rng, place, self.camera_t, light)
            self._add("dynamic", faces, *place, 0.4)

    # vehicles

    def _add_vehicle(
        self, kind: str, place: tuple[float, float], heading: float, crowd: bool = False
    ) -> float:
        """Add a vehicle; returns its length."""
        makers = {
            "car": vehicles.car,
            "truck": vehicles.truck,
            "bus": vehicles.bus,
            "train": vehicles.train,
            "caravan": vehicles.caravan,
            "trailer": vehicles.trailer,
        }
        # Bends turn the street's direction as well; the projection shears, which looks the same.
        solid = Solid(place, heading, (self.camera_t, self.scene.camera.height), self.light)
        length = makers[kind](self.rng, solid, place[1] < vehicles.DETAIL_DISTANCE)
        half_t = abs(math.sin(heading)) * length / 2 + abs(math.cos(heading)) * 0.95
        half_z = abs(math.cos(heading)) * length / 2 + abs(math.sin(heading)) * 0.95
        t, z = place
        box = (t - half_t, t + half_t, z - half_z, z + half_z)
        self.scene.add(ID[kind], solid.faces, box, crowd)
        self.scene.shadows.append(ground.ground_shadow(place, half_t * 1.12, half_z * 1.08))
        return length

    def _moving_kind(self) -> str:
        return ("car", "truck", "bus", "caravan", "trailer")[
            self._weighted([0.898, 0.045, 0.045, 0.004, 0.008])
        ]

    def _drive(self) -> None:
        """Cars in the lanes and in side streets, and trams."""
        self.lane_ends: dict[int, float] = {}
        self._run_trams()
        density = self.district.traffic * self._uniform(0.2, 1.7) / max(len(self.lanes), 1)
        for number, (t, heading) in enumerate(self.lanes):
            own = abs(t) < 1
            z = self.lane_ends.get(number, self._uniform(9, 40) if own else self._uniform(2, 35))
            for _ in range(int(self.rng.poisson(density))):
                kind = self._moving_kind()
                reach = {"car": 2.6, "truck": 5.5, "bus": 6.5}.get(kind, 3)
                z += reach
                if z > self.end - 12:
                    break
                wobble = float(self.rng.normal(0, 0.2))
                self._add_vehicle(kind, (t + wobble, z), heading + float(self.rng.normal(0, 0.02)))
                z += reach + self._uniform(2, 22) * (0.4 if self._chance(0.3) else 1.0)
        for near, away in self.crossings:
            for z, heading in (
                (near * 0.72 + away * 0.28, math.pi / 2),
                (near * 0.28 + away * 0.72, -math.pi / 2),
            ):
                t = self._uniform(-25, -4)
                for _ in range(int(self.rng.poisson(0.7))):
                    kind = self._moving_kind()
                    if not (kind != "car" and z < 20):
                        self._add_vehicle(kind, (t, z), heading + float(self.rng.normal(0, 0.1)))
                    t += self._uniform(9, 22)

    def _run_trams(self) -> None:
        if not self.tracks or not self._chance(0.55):
            return
        t = pick(self.rng, self.tracks)
        on_lane = [k for k, (lane, _) in enumerate(self.lanes) if abs(lane - t) < 1.5]
        z = self._uniform(32, 50) if abs(t) < 1.5 else self._uniform(24, 60)
        if z + 18 > self.end:
            return
        length = self._add_vehicle("train", (t, z), 0.0)
        for k in on_lane:
            self.lane_ends[k] = z + length / 2 + 4

    def _park(self) -> None:
        rng = self.rng
        for side in self.sides:
            if side.parking <= side.road:
                continue
            t = side.sign * (side.road + side.parking) / 2
            z = self._uniform(-2, 8)
            fill = self._uniform(0.35, 0.95)
            slanted = side.pavement - side.parking > 2.5 and self._chance(0.12)
            while z < min(self.end - 4, 100):
                skip = self._gap_after(z) or self._gap_after(z + 3)
                if skip is not None:
                    z = skip + 3
                    continue
                if self._chance(fill):
                    kind = (
                        "car" if self._chance(0.97) else pick(rng, ("truck", "trailer", "caravan"))
                    )
                    heading = (0.0 if side.sign > 0 or self._chance(0.3) else math.pi) + float(
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
                    self._add_vehicle(kind, where, heading, crowd)
                    z += reach
                z += self._uniform(2.5, 3.2) if slanted else self._uniform(5.4, 6.8)

    # people

    def _pavement_place(self, near: float = 6.0, far: float = 70.0) -> tuple[float, float]:
        side = self.sides[int(self.rng.integers(2))]
        inner = side.parking + 0.4
        outer = max(side.pavement, inner + 0.6)
        # Even in the picture rather than on the ground: many are far away.
        z = near * (min(far, self.end - 3) / near) ** self.rng.random()
        return side.sign * self._uniform(inner, outer), float(z)

    def _walk(self) -> None:
        rng, light = self.rng, self.light
        busy = self._uniform(0.2, 4.0)
        for _ in range(int(rng.poisson(self.district.people * busy))):
            place = self._pavement_place()
            if self._chance(0.12) and self.crossings:  # across the road
                near = self.crossings[0][0]
                place = (
                    self._uniform(-self.sides[1].road, self.sides[0].road),
                    near - self._uniform(0.4, 3),
                )
            company = 1 + (int(rng.integers(1, 3)) if self._chance(0.3) else 0)
            for k in range(company):
                spot = (place[0] + 0.55 * k, place[1] + self._uniform(-0.4, 0.4))
                if spot[1] > 4:
                    self._stand(spot)
        if self._chance(0.05 + 0.03 * self.district.people):
            center = self._pavement_place(12, 50)
            faces: list[Face] = []
            for _ in range(int(rng.integers(5, 14))):
                spot = (
                    center[0] + float(rng.normal(0, 0.9)),
                    center[1] + float(rng.normal(0, 0.6)),
                )
                faces = people.person(rng, spot, self.camera_t, light)[0] + faces
            self.scene.add(
                ID["person"],
                faces,
                (center[0] - 0.5, center[0] + 0.5, center[1] - 0.5, center[1] + 0.5),
                True,
            )
        for _ in range(int(rng.poisson(0.7))):  # a stand with many bicycles
            center = self._pavement_place(8, 45)
            parked: list[Face] = []
            count = int(rng.integers(4, 9)) if self._chance(0.6) else 1
            for k in range(count):
                spot = (center[0] + self._uniform(-0.2, 0.2), center[1] + 0.6 * (count - k))
                heading = math.pi / 2 + float(rng.normal(0, 0.25))
                parked += people.bicycle(rng, spot, heading, self.camera_t, light)
            box = (center[0] - 0.5, center[0] + 0.5, center[1], center[1] + 0.6 * count)
            self.scene.add(ID["bicycle"], parked, box, crowd=count > 1)

    def _stand(self, spot: tuple[float, float]) -> None:
        faces, height = people.person(self.rng, spot, self.camera_t, self.light)
        self._add("person", faces, *spot)
        self.scene.shadows.append(ground.ground_shadow(spot, 0.3, 0.25))

    def _ride(self) -> None:
        """Two-wheelers, ridden and parked, alone."""
        rng = self.rng
        for _ in range(int(rng.poisson(0.65))):
            right = self._chance(0.65)
            side = self.sides[0 if right else 1]
            t = side.sign * (side.road - self._uniform(0.3, 1.2))
            z = 7.0 * (8.0 ** float(rng.random()))
            heading = (0.0 if right else math.pi) + float(rng.normal(0, 0.15))
            if self.crossings and self._chance(0.4):
                near, away = self.crossings[0]
                t, z = self._uniform(-6, 6), self._uniform(near, away)
                heading = pick(rng, (-1, 1)) * math.pi / 2 + float(rng.normal(0, 0.2))
            if z > self.end - 3:
                continue
            self._mount((t, z), heading, motorized=self._chance(0.25), ridden=True)
        for _ in range(int(rng.poisson(1.1))):
            heading = float(rng.uniform(0, 2 * math.pi))
            self._mount(self._pavement_place(6, 45), heading, self._chance(0.25), ridden=False)

    def _mount(
        self, place: tuple[float, float], heading: float, motorized: bool, ridden: bool
    ) -> None:
        rng, light, camera_t = self.rng, self.light, self.camera_t
        make = people.motorcycle if motorized else people.bicycle
        faces = make(rng, place, heading, camera_t, light)
        self._add("motorcycle" if motorized else "bicycle", faces, *place, 0.2)
        self.scene.shadows.append(ground.ground_shadow(place, 0.5, 0.5))
        if ridden:
            faces = people.rider(rng, place, heading, camera_t, light, motorized)
            # In front of the machine: the nearer leg hides it.
            self._add("rider", faces, place[0], place[1] - 0.05, 0.12)
