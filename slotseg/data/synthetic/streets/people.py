"""People on foot and on two wheels, bicycles and motorcycles: jointed figures in upright planes."""

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
from slotseg.data.synthetic.streets.palette import HAIR, METALS, PAINTS, SKIN, paint, pick
from slotseg.data.synthetic.streets.scene import Color, Face, Light, Texture

Place = tuple[float, float]
_RUBBER: Color = (0.07, 0.07, 0.075)


def person(
    rng: np.random.Generator, place: Place, camera_t: float, light: Light
) -> tuple[list[Face], float]:
    """Somebody who walks or stands. Returns the faces and the height in metres."""
    height = float(rng.normal(1.72, 0.09)) if rng.random() > 0.12 else float(rng.uniform(1.0, 1.45))
    brightness = light.shade((0, 0.2, -0.98)) * float(rng.uniform(0.75, 1.1))
    top = scaled(paint(rng, PAINTS), brightness)
    legs_color = scaled(paint(rng, PAINTS[:17]), brightness * 0.9)
    skin = scaled(pick(rng, SKIN), brightness)
    hair = scaled(pick(rng, HAIR), brightness)
    direction = facing(place, camera_t)
    if rng.random() < 0.5:
        direction = (-direction[0], -direction[1])
    side_view = rng.random() < 0.5
    stride = float(rng.uniform(0.05, 0.34)) if rng.random() < 0.75 else 0.03
    build = float(rng.uniform(0.9, 1.2))
    unit = height / 1.75
    coat = rng.random() < 0.3
    bag = rng.random()

    shoulder_half = (0.13 if side_view else 0.20) * build
    hip_half = (0.12 if side_view else 0.15) * build
    lean = 0.04 if side_view and stride > 0.1 else 0.0
    feet = (
        ((stride, 0.06), (-stride, 0.08))
        if side_view
        else ((0.10, 0.05), (-0.10, 0.05 + stride / 4))
    )
    hip, chest, neck = (0.0, 0.92), (lean, 1.40), (lean, 1.50)
    back: list[np.ndarray] = []
    legs: list[np.ndarray] = []
    arms: list[np.ndarray] = []
    for number, foot in enumerate(feet):
        hip_x = 0.0 if side_view else (0.08, -0.08)[number]
        bend = 0.06 * (number == 1) if side_view else 0.0
        knee = ((hip_x + foot[0]) / 2 + bend, 0.49)
        legs.append(capsule((hip_x, hip[1]), knee, 0.09 * build, 0.07 * build))
        legs.append(capsule(knee, foot, 0.07 * build, 0.05))
        shoe_end = foot[0] + (0.16 if side_view else 0.02)
        legs.append(capsule(foot, (shoe_end, 0.045), 0.05))
        swing = -0.8 * foot[0] if side_view else (0.09, -0.09)[number]
        shoulder_x = lean if side_view else (shoulder_half, -shoulder_half)[number]
        elbow = (shoulder_x + 0.5 * swing, 1.13)
        hand = (shoulder_x + swing + (0.05 if side_view else 0), 0.88)
        limb = [capsule((shoulder_x, 1.38), elbow, 0.055), capsule(elbow, hand, 0.05, 0.04)]
        (back if number == 0 and side_view else arms).extend(limb)
    torso = np.array(
        [
            (-hip_half, 0.86),
            (hip_half, 0.86),
            (lean + shoulder_half, 1.36),
            (lean + 0.6 * shoulder_half, 1.46),
            (lean - 0.6 * shoulder_half, 1.46),
            (lean - shoulder_half, 1.36),
        ]
    )
    if coat:
        flare = float(rng.uniform(1.1, 1.7))
        torso[0], torso[1] = (-hip_half * flare, 0.55), (hip_half * flare, 0.55)

    def add(outlines: list[np.ndarray], color: Color, texture: Texture = Texture.CLOTH) -> None:
        for outline in outlines:  # limbs overlap: one face each
            faces.append(upright(outline[None] * unit, color, place, direction, texture))

    faces: list[Face] = []
    add(back, scaled(top, 0.75))
    add(legs[:3], scaled(legs_color, 0.85))
    add(legs[3:], legs_color)
    add([capsule(chest, (neck[0], 1.55), 0.06)], skin, Texture.NONE)
    add([torso], top)
    if bag < 0.2 and side_view:
        add([ellipse((-0.2, 1.2), 0.11, 0.22)], scaled(paint(rng, PAINTS), brightness))
    add(arms, scaled(top, 0.88))
    if 0.2 < bag < 0.35:
        add([rectangle(0.18, 0.42, 0.5, 0.82)], scaled(paint(rng, PAINTS), brightness))
    add([ellipse((lean + 0.01, 1.63), 0.095, 0.125)], skin, Texture.NONE)
    back_of_head = 0.1 if rng.random() < 0.5 else 0.03
    add([ellipse((lean - 0.02, 1.66 + 0.03), 0.1, 0.125 - back_of_head / 2)], hair, Texture.NONE)
    return faces, height


def bicycle(
    rng: np.random.Generator, place: Place, heading: float, camera_t: float, light: Light
) -> list[Face]:
    """A bicycle that points along ``heading`` (radians, 0 away from the camera)."""
    brightness = light.shade((0, 0.3, -0.95))
    frame = scaled(paint(rng, PAINTS), brightness)
    metal = scaled(paint(rng, METALS), brightness)
    direction = (math.sin(heading), math.cos(heading))
    across = facing(place, camera_t)
    radius = float(rng.uniform(0.31, 0.36))
    rear, front = (-0.53, radius), (0.53, radius)
    pedal, seat, head = (-0.08, 0.3), (-0.22, 0.85), (0.36, 0.82)
    faces: list[Face] = []

    def side(outlines: list[np.ndarray], color: Color) -> None:
        faces.extend(upright(o[None], color, place, direction) for o in outlines)

    # Spokes let half of the street show through; a disc of a street's grey stands for that.
    spokes = scaled((0.42, 0.42, 0.42), brightness * float(rng.uniform(0.7, 1.0)))
    for center in (rear, front):
        side([ellipse(center, radius, corners=20)], _RUBBER)
        side([ellipse(center, radius * 0.86, corners=20)], spokes)
        # Seen from the end a wheel is an upright stroke.
        spot = (place[0] + center[0] * direction[0], place[1] + center[0] * direction[1])
        tyre = rectangle(-0.03, 0.03, 0.0, 2 * radius)[None]
        faces.append(upright(tyre, _RUBBER, spot, across))
    side([capsule(a, b, 0.025) for a, b in ((rear, pedal), (rear, (-0.2, 0.75)))], frame)
    side([capsule(pedal, (-0.2, 0.78), 0.03), capsule(pedal, (0.38, 0.7), 0.035)], frame)
    side([capsule((-0.2, 0.75), (0.36, 0.78), 0.03), capsule(front, head, 0.03)], frame)
    side([capsule(head, (0.32, 1.02), 0.025), capsule((0.32, 1.02), (0.42, 1.0), 0.03)], metal)
    side([capsule((-0.2, 0.75), seat, 0.02), capsule((-0.33, 0.9), (-0.12, 0.88), 0.04)], _RUBBER)
    side([ellipse(pedal, 0.1)], metal)
    bar = (place[0] + 0.34 * direction[0], place[1] + 0.34 * direction[1])
    faces.append(upright(capsule((-0.28, 1.0), (0.28, 1.0), 0.025)[None], _RUBBER, bar, across))
    if rng.random() < 0.3:  # a basket or a child's seat
        side([rectangle(-0.62, -0.36, 0.72, 0.98)], scaled(paint(rng, PAINTS), brightness))
    return faces


def motorcycle(
    rng: np.random.Generator, place: Place, heading: float, camera_t: float, light: Light
) -> list[Face]:
    """A motorcycle or a scooter: small thick wheels and a closed body."""
    brightness = light.shade((0, 0.3, -0.95))
    body = scaled(paint(rng, PAINTS), brightness)
    metal = scaled(paint(rng, METALS), brightness)
    direction = (math.sin(heading), math.cos(heading))
    across = facing(place, camera_t)
    scooter = rng.random() < 0.4
    radius = 0.23 if scooter else 0.31
    rear, front = (-0.68, radius), (0.70, radius)
    faces: list[Face] = []

    def side(outlines: list[np.ndarray], color: Color) -> None:
        faces.extend(upright(o[None], color, place, direction) for o in outlines)

    for center in (rear, front):
        spot = (place[0] + center[0] * direction[0], place[1] + center[0] * direction[1])
        faces.append(upright(rectangle(-0.08, 0.08, 0.0, 2 * radius)[None], _RUBBER, spot, across))
        side([ellipse(center, radius, corners=16)], _RUBBER)
        side([ellipse(center, radius * 0.5)], metal)
    side([capsule(front, (0.45, 0.95), 0.05)], metal)
    side([np.array([(-0.45, 0.28), (0.35, 0.25), (0.45, 0.55), (-0.3, 0.6)])], metal)
    seat = scaled(_RUBBER, brightness)
    if scooter:
        shell = [(-0.9, 0.45), (-0.3, 0.3), (0.35, 0.25), (0.55, 0.35), (0.5, 0.95), (0.4, 0.9)]
        side([np.array([*shell, (0.25, 0.42), (-0.15, 0.45), (-0.2, 0.75), (-0.85, 0.75)])], body)
    else:
        tank = [(-0.15, 0.6), (0.4, 0.58), (0.42, 0.88), (0.1, 0.98), (-0.2, 0.8)]
        side([np.array(tank)], body)
        side([np.array([(-0.85, 0.72), (-0.2, 0.58), (-0.15, 0.75), (-0.9, 0.86)])], body)
        side([np.array([(0.42, 0.6), (0.75, 0.7), (0.55, 1.1), (0.38, 1.0)])], body)
        side([capsule((-0.8, 0.4), (-0.2, 0.35), 0.07)], metal)
    side([capsule((-0.75, 0.82), (-0.12, 0.8), 0.06)], seat)
    # The body and the handlebar as seen from the end.
    faces.append(upright(rectangle(-0.17, 0.17, 0.4, 0.95)[None], body, place, across))
    bar = (place[0] + 0.4 * direction[0], place[1] + 0.4 * direction[1])
    faces.append(upright(capsule((-0.36, 1.05), (0.36, 1.05), 0.035)[None], metal, bar, across))
    end = 0.75 if math.cos(heading) < 0 else -0.85
    lamp_place = (place[0] + end * direction[0], place[1] + end * direction[1])
    lamp = (0.88, 0.88, 0.84) if end > 0 else (0.6, 0.07, 0.06)
    faces.append(upright(ellipse((0.0, 0.82), 0.08)[None], lamp, lamp_place, across))
    return faces


def rider(
    rng: np.random.Generator,
    place: Place,
    heading: float,
    camera_t: float,
    light: Light,
    motorized: bool,
) -> list[Face]:
    """Somebody on the saddle of a two-wheeler at the same ``place`` and ``heading``."""
    brightness = light.shade((0, 0.2, -0.98)) * float(rng.uniform(0.75, 1.1))
    top = scaled(paint(rng, PAINTS), brightness)
    legs = scaled(paint(rng, PAINTS[:17]), brightness * 0.9)
    skin = scaled(pick(rng, SKIN), brightness)
    helmet = motorized or rng.random() < 0.5
    head_color = scaled(paint(rng, PAINTS), brightness) if helmet else skin
    hair = scaled(pick(rng, HAIR), brightness)
    across = facing(place, camera_t)
    direction = (math.sin(heading), math.cos(heading))
    # How much of the side is turned to the camera.
    broadside = abs(direction[0] * across[0] + direction[1] * across[1])
    faces: list[Face] = []
    phase = float(rng.uniform(0, 2 * math.pi))
    lean = float(rng.uniform(0.1, 0.32))
    seat_height = 0.86 if motorized else 0.95

    def add(outline: np.ndarray, color: Color, flat: tuple[float, float]) -> None:
        faces.append(upright(outline[None], color, place, flat, Texture.CLOTH))

    shoulder_y = seat_height + 0.52
    if broadside > 0.45:
        hip, shoulder = (-0.22, seat_height), (-0.22 + lean, shoulder_y)
        for offset, factor in ((math.pi, 0.8), (0.0, 1.0)):
            foot = (
                (0.05, 0.32)
                if motorized
                else (
                    -0.06 + 0.16 * math.cos(phase + offset),
                    0.3 + 0.16 * math.sin(phase + offset),
                )
            )
            knee = (foot[0] + 0.24, (foot[1] + hip[1]) / 2 + 0.12)
            add(capsule(hip, knee, 0.095, 0.08), scaled(legs, factor), direction)
            add(capsule(knee, foot, 0.075, 0.055), scaled(legs, factor), direction)
            add(capsule(foot, (foot[0] + 0.15, foot[1] - 0.01), 0.05), _RUBBER, direction)
        add(capsule((hip[0], hip[1] + 0.08), shoulder, 0.16, 0.14), top, direction)
        hand = (0.33, 1.04)
        elbow = ((shoulder[0] + hand[0]) / 2, (shoulder[1] + hand[1]) / 2 - 0.08)
        add(capsule(shoulder, elbow, 0.06), scaled(top, 0.85), direction)
        add(capsule(elbow, hand, 0.05, 0.04), scaled(top, 0.85), direction)
        head = (shoulder[0] + 0.07, shoulder_y + 0.26)
        flat = direction
    else:
        for sign in (-1, 1):
            foot_y = 0.3 + (0.0 if motorized else 0.15 * math.sin(phase) * sign)
            knee = (0.17 * sign, (foot_y + seat_height) / 2 + 0.08)
            add(capsule((0.09 * sign, seat_height), knee, 0.09, 0.075), legs, across)
            add(capsule(knee, (0.14 * sign, foot_y), 0.07, 0.05), scaled(legs, 0.9), across)
            elbow = (0.3 * sign, seat_height + 0.28)
            add(capsule((0.19 * sign, shoulder_y), elbow, 0.06), scaled(top, 0.85), across)
            add(capsule(elbow, (0.27 * sign, 1.04), 0.05), scaled(top, 0.8), across)
        torso = [(-0.15, seat_height - 0.06), (0.15, seat_height - 0.06), (0.22, shoulder_y)]
        add(
            np.array(
                [*torso, (0.1, shoulder_y + 0.1), (-0.1, shoulder_y + 0.1), (-0.22, shoulder_y)]
            ),
            top,
            across,
        )
        head = (0.0, shoulder_y + 0.26)
        flat = across
    size = 0.15 if motorized else 0.11
    add(capsule((head[0], head[1] - 0.18), head, 0.055), skin, flat)
    add(ellipse(head, size * 0.9, size * 1.1), head_color, flat)
    if helmet and not motorized:
        add(ellipse((head[0], head[1] - 0.03), 0.08, 0.09), skin, flat)
    elif not helmet:
        add(ellipse((head[0] - 0.01, head[1] + 0.05), size * 0.9, size * 0.75), hair, flat)
    return faces
