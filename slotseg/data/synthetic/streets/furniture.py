"""What stands on pavements: lamps, signals, signs, bins, benches and other small things."""

from __future__ import annotations

import math

import numpy as np

from slotseg.data.synthetic.streets.outlines import (
    capsule,
    ellipse,
    facing,
    rectangle,
    scaled,
    upright,
)
from slotseg.data.synthetic.streets.palette import METALS, PAINTS, paint, pick
from slotseg.data.synthetic.streets.scene import Color, Face, Light

Place = tuple[float, float]
_RED: Color = (0.68, 0.10, 0.10)
_BLUE: Color = (0.10, 0.26, 0.58)
_YELLOW: Color = (0.80, 0.64, 0.12)
_GREEN: Color = (0.10, 0.42, 0.28)
_WHITE: Color = (0.84, 0.84, 0.82)


def pole(
    rng: np.random.Generator, place: Place, light: Light, height: float, radius: float
) -> list[Face]:
    """A post."""
    color = scaled(paint(rng, METALS), light.shade((0, 0.1, -0.99)))
    shaft = rectangle(-radius, radius, 0, height)
    lit = rectangle(-radius * 0.6, -radius * 0.1, 0, height)
    return [upright(shaft[None], color, place), upright(lit[None], scaled(color, 1.25), place)]


def street_lamp(rng: np.random.Generator, place: Place, side: int, light: Light) -> list[Face]:
    """A lamp post with an arm over the road, or with a lantern on top."""
    height = float(rng.uniform(5.0, 9.5))
    faces = pole(rng, place, light, height, 0.09)
    color = scaled(paint(rng, METALS), light.ambient + 0.3)
    if rng.random() < 0.7:
        reach = -side * float(rng.uniform(1.2, 2.6))
        faces.append(upright(capsule((0, height), (reach, height + 0.5), 0.06)[None], color, place))
        head = capsule((reach, height + 0.5), (reach * 1.35, height + 0.5), 0.12, 0.09)
        faces.append(upright(head[None], scaled(color, 1.2), place))
    else:
        faces.append(
            upright(ellipse((0, height + 0.2), 0.28, 0.35)[None], scaled(color, 1.4), place)
        )
    return faces


def traffic_light(
    rng: np.random.Generator, place: Place, side: int, light: Light
) -> tuple[list[Face], list[Face]]:
    """A signal. Returns the faces of its pole and those of its lamps' boxes."""
    shade = light.shade((0, 0, -1))
    gantry = rng.random() < 0.3
    height = 5.4 if gantry else float(rng.uniform(2.9, 3.5))
    supports = pole(rng, place, light, height, 0.07)
    state = int(rng.integers(3))
    boxes: list[Face] = []
    spots = [(0.0, height - 1.0 if not gantry else 2.4)]
    if gantry:
        reach = -side * float(rng.uniform(2.5, 4.5))
        arm = capsule((0, height - 0.1), (reach, height - 0.1), 0.06)
        supports.append(upright(arm[None], scaled(METALS[1], shade), place))
        spots.append((reach, height - 1.05))
    casing: Color = pick(rng, ((0.06, 0.06, 0.06), (0.10, 0.11, 0.10), (0.70, 0.55, 0.12)))
    from_behind = rng.random() < 0.2
    for x, y in spots:
        plate = rectangle(x - 0.19, x + 0.19, y, y + 1.0)[None]
        boxes.append(upright(plate, scaled(casing, shade), place))
        if from_behind:
            continue
        for number, lamp in enumerate(((0.1, 0.75, 0.45), (0.95, 0.65, 0.1), (0.95, 0.15, 0.1))):
            lit = number == state
            color = lamp if lit else scaled(lamp, 0.2)
            disc = ellipse((x, y + 0.2 + 0.3 * number), 0.115)
            boxes.append(upright(disc[None], color, place))
    return supports, boxes


def traffic_sign(
    rng: np.random.Generator, place: Place, light: Light
) -> tuple[list[Face], list[Face]]:
    """A sign. Returns the faces of its pole and those of its plate."""
    shade = light.shade((0, 0, -1)) * 1.05
    kind = int(rng.integers(7))
    large = kind == 6
    middle = float(rng.uniform(2.2, 2.8)) + 0.8 * large
    supports = pole(rng, place, light, middle + (0.2 if not large else 0.6), 0.045 + 0.03 * large)
    plates: list[Face] = []

    def add(outline: np.ndarray, color: Color) -> None:
        plates.append(upright(outline[None], scaled(color, shade), place))

    if rng.random() < 0.15:  # from behind
        add(ellipse((0, middle), 0.34), METALS[3])
        return supports, plates
    if kind == 0:
        add(ellipse((0, middle), 0.36, corners=16), _RED)
        add(ellipse((0, middle), 0.27, corners=16), _WHITE)
        add(rectangle(-0.12, 0.12, middle - 0.1, middle + 0.1), (0.1, 0.1, 0.1))
    elif kind == 1:
        add(np.array([(-0.45, middle - 0.33), (0.45, middle - 0.33), (0.0, middle + 0.45)]), _RED)
        add(np.array([(-0.28, middle - 0.24), (0.28, middle - 0.24), (0.0, middle + 0.25)]), _WHITE)
    elif kind == 2:
        add(ellipse((0, middle), 0.36, corners=16), _BLUE)
        add(capsule((0, middle - 0.2), (0, middle + 0.15), 0.06), _WHITE)
    elif kind == 3:
        diamond = np.array([(0.0, -0.45), (0.45, 0.0), (0.0, 0.45), (-0.45, 0.0)])
        add(diamond + (0, middle), _WHITE)
        add(diamond * 0.7 + (0, middle), _YELLOW)
    elif kind == 4:
        add(ellipse((0, middle), 0.4, corners=8), _RED)
        add(rectangle(-0.26, 0.26, middle - 0.08, middle + 0.08), _WHITE)
    elif kind == 5:
        add(rectangle(-0.32, 0.32, middle - 0.32, middle + 0.32), _BLUE)
        add(rectangle(-0.14, 0.06, middle - 0.2, middle + 0.2), _WHITE)
    else:
        half, tall = float(rng.uniform(0.8, 1.5)), float(rng.uniform(0.4, 0.7))
        add(
            rectangle(-half, half, middle - tall, middle + tall),
            pick(rng, (_BLUE, _YELLOW, _GREEN, _WHITE)),
        )
        for y in (-0.45, 0.1):
            line = rectangle(-half * 0.8, half * 0.5, middle + y * tall, middle + (y + 0.3) * tall)
            add(line, pick(rng, (_WHITE, (0.1, 0.1, 0.1))))
    if rng.random() < 0.25 and not large:
        add(rectangle(-0.3, 0.3, middle - 0.75, middle - 0.5), _WHITE)
    return supports, plates


def static_thing(
    rng: np.random.Generator, place: Place, camera_t: float, light: Light
) -> list[Face]:
    """Something that never moves and has no class: a bin, a box, a bench or a billboard column."""
    direction = facing(place, camera_t)
    color = scaled(paint(rng, PAINTS), light.shade((0, 0.3, -0.95)))
    kind = int(rng.integers(4))
    if kind == 0:
        outlines = [rectangle(-0.28, 0.28, 0.05, 1.0), rectangle(-0.32, 0.32, 1.0, 1.1)]
    elif kind == 1:
        outlines = [rectangle(-0.5, 0.5, 0.0, 1.25)]
    elif kind == 2:
        outlines = [
            rectangle(-0.9, 0.9, 0.42, 0.5),
            rectangle(-0.9, 0.9, 0.6, 0.9),
            rectangle(-0.8, -0.7, 0.0, 0.42),
            rectangle(0.7, 0.8, 0.0, 0.42),
        ]
    else:
        outlines = [rectangle(-0.7, 0.7, 0.0, 3.2), ellipse((0, 3.3), 0.8, 0.3)]
    faces = [
        upright(o[None], scaled(color, 1 - 0.08 * k), place, direction)
        for k, o in enumerate(outlines)
    ]
    if kind == 3:
        poster = rectangle(-0.5, 0.4, 1.0, 2.6)
        faces.append(upright(poster[None], paint(rng, PAINTS), place, direction))
    return faces


def dynamic_thing(
    rng: np.random.Generator, place: Place, camera_t: float, light: Light
) -> list[Face]:
    """Something that may move and has no class: a dog, a pram, a wheeled bin or rubbish bags."""
    direction = facing(place, camera_t)
    color = scaled(paint(rng, PAINTS), light.shade((0, 0.3, -0.95)))
    kind = int(rng.integers(4))
    if kind == 0:
        outlines = [capsule((x, 0.03), (x * 0.95, 0.35), 0.04) for x in (-0.28, -0.2, 0.2, 0.28)]
        outlines += [capsule((-0.28, 0.42), (0.26, 0.44), 0.12)]
        outlines += [
            capsule((0.3, 0.5), (0.42, 0.62), 0.09),
            capsule((-0.35, 0.5), (-0.5, 0.65), 0.03),
        ]
    elif kind == 1:
        outlines = [ellipse((-0.25, 0.13), 0.13), ellipse((0.25, 0.13), 0.13)]
        outlines += [capsule((-0.25, 0.15), (0.4, 0.95), 0.03), ellipse((-0.1, 0.6), 0.38, 0.28)]
    elif kind == 2:
        outlines = [
            rectangle(-0.35, 0.35, 0.08, 1.05),
            ellipse((-0.25, 0.1), 0.1),
            rectangle(-0.38, 0.38, 1.0, 1.12),
        ]
    else:
        outlines = [ellipse((x, 0.25), 0.3, 0.26) for x in (-0.3, 0.25)] + [ellipse((0, 0.35), 0.3)]
    return [
        upright(o[None], scaled(color, 0.85 + 0.3 * math.sin(k) ** 2), place, direction)
        for k, o in enumerate(outlines)
    ]
