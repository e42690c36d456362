"""Cars, vans, trucks, buses, trams, trailers and caravans as solids on the ground."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slotseg.data.synthetic.streets.outlines import Solid, ellipse, rectangle, scaled
from slotseg.data.synthetic.streets.palette import GLASS, PAINTS, paint, pick
from slotseg.data.synthetic.streets.scene import Color

TYRE: Color = (0.06, 0.06, 0.065)
#: Beyond this distance, metres, details of a vehicle are left out: they are below a pixel even in
#: the largest pictures in use.
DETAIL_DISTANCE = 90.0


@dataclass(frozen=True)
class CarShape:
    """Side profile of a car: shares of the length from the rear, and of the height.

    ``body`` goes counter-clockwise from the rear bumper; ``cabin`` is front low, front top, rear
    top, rear low.
    """

    length: tuple[float, float]
    width: tuple[float, float]
    height: tuple[float, float]
    body: tuple[tuple[float, float], ...]
    cabin: tuple[tuple[float, float], ...]
    taper: float


CAR_SHAPES: dict[str, CarShape] = {
    "sedan": CarShape(
        (4.4, 5.0),
        (1.75, 1.9),
        (1.40, 1.50),
        ((0, 0.17), (1, 0.17), (1, 0.42), (0.96, 0.54), (0.72, 0.63), (0.15, 0.66), (0, 0.60)),
        ((0.74, 0.62), (0.56, 0.99), (0.33, 1.0), (0.14, 0.65)),
        0.76,
    ),
    "hatchback": CarShape(
        (3.6, 4.3),
        (1.65, 1.8),
        (1.42, 1.56),
        ((0, 0.17), (1, 0.17), (1, 0.42), (0.95, 0.55), (0.74, 0.62), (0.02, 0.62), (0, 0.55)),
        ((0.77, 0.61), (0.55, 0.98), (0.18, 1.0), (0.02, 0.62)),
        0.78,
    ),
    "wagon": CarShape(
        (4.4, 4.9),
        (1.75, 1.88),
        (1.42, 1.55),
        ((0, 0.17), (1, 0.17), (1, 0.42), (0.96, 0.54), (0.73, 0.62), (0.01, 0.62), (0, 0.55)),
        ((0.75, 0.61), (0.57, 0.98), (0.10, 1.0), (0.01, 0.62)),
        0.78,
    ),
    "suv": CarShape(
        (4.3, 4.9),
        (1.82, 2.0),
        (1.65, 1.85),
        ((0, 0.21), (1, 0.21), (1, 0.50), (0.96, 0.58), (0.76, 0.64), (0.01, 0.64), (0, 0.55)),
        ((0.78, 0.63), (0.62, 0.98), (0.08, 1.0), (0.01, 0.63)),
        0.82,
    ),
    "van": CarShape(
        (4.8, 5.9),
        (1.9, 2.05),
        (1.95, 2.6),
        ((0, 0.14), (1, 0.14), (1, 0.36), (0.97, 0.46), (0.86, 0.52), (0, 0.52)),
        ((0.88, 0.51), (0.74, 0.98), (0.01, 1.0), (0, 0.52)),
        0.93,
    ),
}
_CAR_NAMES = ("sedan", "hatchback", "hatchback", "wagon", "wagon", "suv", "van")


def _wheels(
    solid: Solid, places: list[float], radius: float, half_width: float, detailed: bool
) -> None:
    tyres = np.stack([ellipse((z, radius), radius) for z in places])
    solid.decorate_side(tyres, TYRE, half_width + 0.01, lit=False)
    if detailed:
        rims = np.stack([ellipse((z, radius), radius * 0.62) for z in places])
        solid.decorate_side(rims, (0.42, 0.43, 0.44), half_width + 0.012)


def _tyres_from_the_ends(solid: Solid, places: list[float], half_width: float) -> None:
    """What shows of the wheels below the body from behind or from ahead; painted before it."""
    tyres = np.stack(
        [
            rectangle(-half_width, -half_width + 0.24, 0.0, 0.6),
            rectangle(half_width - 0.24, half_width, 0.0, 0.6),
        ]
    )
    for z in (min(places) - 0.25, max(places) + 0.25):
        solid.decorate_end(tyres, TYRE, z, lit=False)


def _inset(polygon: np.ndarray, share: float) -> np.ndarray:
    center = polygon.mean(axis=0)
    return center + (polygon - center) * (1 - share)


def car(rng: np.random.Generator, solid: Solid, detailed: bool) -> float:
    """Add a passenger car or van. Returns its length in metres."""
    shape = CAR_SHAPES[pick(rng, _CAR_NAMES)]
    length = float(rng.uniform(*shape.length))
    width = float(rng.uniform(*shape.width))
    height = float(rng.uniform(*shape.height))
    color = paint(rng, PAINTS)
    glass = paint(rng, GLASS, 0.02)
    radius = 0.165 * length * 0.45 + 0.02 + 0.06 * (height > 1.6)
    cargo_van = height > 1.9 and rng.random() < 0.5
    lamp_width = float(rng.uniform(0.25, 0.45))
    body = (np.array(shape.body) - (0.5, 0)) * (length, height)
    cabin = (np.array(shape.cabin) - (0.5, 0)) * (length, height)
    half = width / 2
    widths = np.full(len(body), half)
    widths[[1, 2]] = half * 0.93
    widths[[0, -1]] = half * 0.95
    dark = scaled(color, 0.55)
    wheels = [-0.31 * length, 0.31 * length]
    _tyres_from_the_ends(solid, wheels, half)
    solid.extrude(body, widths, [dark] + [color] * (len(body) - 1), color)
    top = half * shape.taper
    cabin_widths = np.array([half * 0.95, top, top, half * 0.95])
    rear_glass: Color = color if cargo_van else glass
    solid.extrude(cabin, cabin_widths, [glass, color, rear_glass, None], color)
    low, high = float(cabin[:, 1].min()), float(cabin[:, 1].max())
    if detailed:
        front_low, front_top, rear_top, rear_low = cabin
        pillar = 0.5 if not cargo_van else 0.28
        split_low = front_low + (rear_low - front_low) * pillar
        split_top = front_top + (rear_top - front_top) * (pillar - 0.1)
        panes = [np.array([split_low, front_low, front_top, split_top])]
        if not cargo_van:
            panes.append(np.array([rear_low, split_low, split_top, rear_top]))
        panes = np.stack([_inset(pane, 0.16) for pane in panes])
        solid.decorate_side(panes, glass, half * 0.955, top, (low, high))
    _wheels(solid, wheels, radius, half, detailed)
    if not detailed:
        return length
    rear, front = -length / 2 - 0.01, length / 2 + 0.01
    lamp_low, lamp_high = 0.40 * height, 0.50 * height
    reach = half * 0.92
    lamps = np.stack(
        [
            rectangle(-reach, -reach + lamp_width, lamp_low, lamp_high),
            rectangle(reach - lamp_width, reach, lamp_low, lamp_high),
        ]
    )
    braking = 1.5 if rng.random() < 0.3 else 1.0
    solid.decorate_end(lamps, scaled((0.55, 0.07, 0.06), braking), rear, lit=False)
    solid.decorate_end(lamps - (0, 0.05 * height), (0.86, 0.86, 0.82), front, lit=False)
    plate = rectangle(-0.26, 0.26, 0.28 * height, 0.28 * height + 0.11)[None]
    solid.decorate_end(plate, (0.85, 0.85, 0.80), rear)
    solid.decorate_end(plate - (0, 0.05), (0.85, 0.85, 0.80), front)
    grille = rectangle(-0.4 * half, 0.4 * half, 0.33 * height, 0.42 * height)[None]
    solid.decorate_end(grille, (0.08, 0.08, 0.09), front)
    bumper = rectangle(-reach, reach, 0.18 * height, 0.25 * height)[None]
    solid.decorate_end(bumper, scaled(dark, 0.6), rear)
    solid.decorate_end(bumper, scaled(dark, 0.6), front)
    return length


def truck(rng: np.random.Generator, solid: Solid, detailed: bool) -> float:
    """Add a lorry: a cab, a gap and a box or a loading platform. Returns its length."""
    length = float(rng.uniform(6.5, 11.0))
    half = float(rng.uniform(1.1, 1.25))
    height = float(rng.uniform(2.8, 3.7))
    cab_color, box_color = paint(rng, PAINTS), paint(rng, PAINTS)
    glass = paint(rng, GLASS, 0.02)
    cab_length = float(rng.uniform(1.7, 2.2))
    cab_height = float(rng.uniform(2.4, 2.8))
    rear, front = -length / 2, length / 2
    cab_rear = front - cab_length
    frame: Color = (0.09, 0.09, 0.10)
    open_platform = rng.random() < 0.3

    def add_load() -> None:
        solid.box((-half * 0.8, half * 0.8), (0.55, 1.0), (rear, cab_rear), frame)
        load = (rear, cab_rear - 0.35)
        if open_platform:
            solid.box((-half, half), (0.95, 1.5), load, box_color)
            cargo = paint(rng, PAINTS)
            solid.box((-half * 0.8, half * 0.7), (1.5, height * 0.8), (rear + 1.2, load[1]), cargo)
            return
        solid.box((-half, half), (1.0, height), load, box_color)
        if detailed:
            seam = np.stack([rectangle(-0.02, 0.02, 1.1, height - 0.1)])
            solid.decorate_end(seam, scaled(box_color, 0.5), rear - 0.01)
            stripe = rectangle(load[0] + 0.6, load[1] - 0.6, 1.6, 2.2)[None]
            solid.decorate_side(stripe, paint(rng, PAINTS), half + 0.01)

    def add_cab() -> None:
        profile = np.array(
            [
                (cab_rear, 0.5),
                (front, 0.5),
                (front, 1.35),
                (front - 0.22, cab_height),
                (cab_rear, cab_height),
            ]
        )
        colors: list[Color | None] = [None, cab_color, glass, cab_color, cab_color]
        solid.extrude(profile, np.full(5, half * 0.98), colors, cab_color)
        pane = np.array(
            [
                (cab_rear + 0.5, 1.45),
                (front - 0.15, 1.45),
                (front - 0.3, cab_height - 0.25),
                (cab_rear + 0.5, cab_height - 0.25),
            ]
        )
        solid.decorate_side(pane[None], glass, half)
        if detailed:
            lamps = np.stack(
                [
                    rectangle(-half + 0.1, -half + 0.45, 0.65, 0.85),
                    rectangle(half - 0.45, half - 0.1, 0.65, 0.85),
                ]
            )
            solid.decorate_end(lamps, (0.85, 0.85, 0.80), front + 0.01, lit=False)
            solid.decorate_end(lamps, (0.55, 0.06, 0.05), rear - 0.01, lit=False)
            grille = rectangle(-half * 0.7, half * 0.7, 0.9, 1.3)[None]
            solid.decorate_end(grille, (0.10, 0.10, 0.11), front + 0.01)

    wheels = [front - 1.0, rear + 1.1] + ([rear + 2.3] if length > 8.5 else [])
    _tyres_from_the_ends(solid, wheels, half)
    # What is nearer to the camera is painted last.
    parts = (add_load, add_cab) if solid.eye[2] > cab_rear else (add_cab, add_load)
    for part in parts:
        part()
    _wheels(solid, wheels, 0.5, half, detailed)
    return length


def bus(rng: np.random.Generator, solid: Solid, detailed: bool) -> float:
    """Add a city bus: one long box, a band of windows, doors and a lit sign. Returns its length."""
    length = float(rng.uniform(10.5, 13.0))
    half = 1.27
    height = float(rng.uniform(2.9, 3.2))
    color, skirt = paint(rng, PAINTS), paint(rng, PAINTS)
    glass = paint(rng, GLASS, 0.02)
    rear, front = -length / 2, length / 2
    wheels = [rear + 2.9, front - 2.6]
    _tyres_from_the_ends(solid, wheels, half)
    solid.box((-half, half), (0.3, height), (rear, front), color)
    band = rectangle(rear + 0.05, front - 0.05, 0.32, 0.95)[None]
    solid.decorate_side(band, skirt, half + 0.01)
    windows = rectangle(rear + 0.3, front - 0.1, 1.35, height - 0.45)[None]
    solid.decorate_side(windows, glass, half + 0.012)
    if detailed:
        posts = np.arange(rear + 1.7, front - 0.6, 1.5)
        bars = np.stack([rectangle(z - 0.05, z + 0.05, 1.35, height - 0.45) for z in posts])
        solid.decorate_side(bars, scaled(color, 0.7), half + 0.014)
        doors = np.stack([rectangle(z, z + 1.2, 0.4, height - 0.4) for z in (front - 1.5, -0.4)])
        solid.decorate_side(doors, scaled(glass, 0.75), half + 0.016)
    _wheels(solid, wheels, 0.48, half, detailed)
    for z in (rear - 0.01, front + 0.01):
        tall = 1.05 if z > 0 else 1.55
        solid.decorate_end(rectangle(-half + 0.08, half - 0.08, tall, height - 0.5)[None], glass, z)
        if detailed:
            sign = rectangle(-half * 0.6, half * 0.6, height - 0.42, height - 0.12)[None]
            solid.decorate_end(sign, (0.06, 0.06, 0.06), z)
            glow = rectangle(-half * 0.5, half * 0.3, height - 0.34, height - 0.2)[None]
            solid.decorate_end(glow, (0.85, 0.60, 0.15), z, lit=False)
            lamps = np.stack(
                [
                    rectangle(-half + 0.1, -half + 0.4, 0.6, 0.85),
                    rectangle(half - 0.4, half - 0.1, 0.6, 0.85),
                ]
            )
            solid.decorate_end(lamps, (0.86,) * 3 if z > 0 else (0.6, 0.07, 0.06), z, lit=False)
    return length


def train(rng: np.random.Generator, solid: Solid, detailed: bool) -> float:
    """Add a tram: low, very long, articulated, with sloping ends. Returns its length."""
    modules = int(rng.integers(2, 5))
    length = 8.5 * modules
    half, height = 1.22, float(rng.uniform(3.3, 3.6))
    color, stripe = paint(rng, PAINTS), paint(rng, PAINTS)
    glass = paint(rng, GLASS, 0.02)
    rear, front = -length / 2, length / 2
    profile = np.array(
        [
            (rear + 0.1, 0.18),
            (front - 0.1, 0.18),
            (front, 1.2),
            (front - 0.9, height),
            (rear + 0.9, height),
            (rear, 1.2),
        ]
    )
    widths = np.array([0.8, 0.8, 0.85, 0.95, 0.95, 0.85]) * half
    solid.extrude(profile, widths, [None, stripe, glass, color, glass, stripe], color)
    solid.decorate_side(
        rectangle(rear + 0.2, front - 0.2, 0.2, 0.75)[None],
        stripe,
        half * 0.86,
        half * 0.95,
        (0, 3),
    )
    starts = np.arange(modules) * 8.5 + rear
    panes, doors = [], []
    for start in starts:
        panes += [rectangle(start + 0.8 + k, start + 1.7 + k, 1.3, height - 0.7) for k in (0, 3, 6)]
        panes.append(rectangle(start + 4.9, start + 6.6, 1.3, height - 0.7))
        doors.append(rectangle(start + 2.0, start + 3.6, 0.35, height - 0.6))
    tilt = (0.2, height)
    solid.decorate_side(np.stack(panes), glass, half * 0.87, half * 0.96, tilt)
    if detailed:
        solid.decorate_side(np.stack(doors), scaled(glass, 0.8), half * 0.87, half * 0.96, tilt)
    joints = [rectangle(z - 0.25, z + 0.25, 0.25, height) for z in starts[1:]]
    solid.decorate_side(np.stack(joints), (0.12, 0.12, 0.13), half * 0.88, half * 0.97, tilt)
    # The pantograph on the roof, which no other vehicle has.
    solid.box((-0.6, 0.6), (height, height + 0.25), (-1.2, 1.2), (0.25, 0.25, 0.26))
    arm = np.array([[(-0.05, height + 0.2), (0.05, height + 0.2), (0.75, 4.6), (0.65, 4.6)]])
    solid.decorate_side(arm, (0.2, 0.2, 0.21), 0.3)
    bow = rectangle(-0.8, 0.8, 4.55, 4.65)[None]
    solid.decorate_end(bow, (0.2, 0.2, 0.21), 0.7)
    solid.decorate_end(bow, (0.2, 0.2, 0.21), -0.7)
    if detailed:
        lamps = np.stack([ellipse((x, 0.85), 0.13) for x in (-0.75, 0.75)])
        solid.decorate_end(lamps, (0.88, 0.88, 0.84), front + 0.02, lit=False)
        solid.decorate_end(lamps, (0.6, 0.08, 0.07), rear - 0.02, lit=False)
    return length


def caravan(rng: np.random.Generator, solid: Solid, detailed: bool) -> float:
    """Add a caravan: a rounded light box on one axle. Returns its length."""
    length, half, height = float(rng.uniform(4.5, 6.0)), 1.1, 2.5
    color = paint(rng, PAINTS[5:7])
    rear, front = -length / 2, length / 2
    profile = np.array(
        [
            (rear, 0.45),
            (front - 0.2, 0.45),
            (front, 1.2),
            (front - 0.4, height),
            (rear + 0.2, height),
        ]
    )
    _tyres_from_the_ends(solid, [0.0], half)
    solid.extrude(profile, np.full(5, half), [color] * 5, color)
    pane = rectangle(-half * 0.6, half * 0.6, 1.4, 2.0)[None]
    solid.decorate_end(pane, GLASS[1], rear - 0.01, lean=-0.05)
    panes = np.stack([rectangle(z, z + 0.9, 1.4, 2.0) for z in (rear + 0.6, front - 1.8)])
    solid.decorate_side(panes, GLASS[1], half + 0.01)
    _wheels(solid, [0.0], 0.33, half, detailed)
    return length


def trailer(rng: np.random.Generator, solid: Solid, detailed: bool) -> float:
    """Add a small goods trailer. Returns its length."""
    length, half = float(rng.uniform(2.2, 3.4)), 0.8
    top = float(rng.uniform(1.0, 1.8))
    _tyres_from_the_ends(solid, [0.0], half)
    solid.box((-half, half), (0.5, top), (-length / 2, length / 2), paint(rng, PAINTS))
    _wheels(solid, [0.0], 0.3, half, detailed)
    return length
