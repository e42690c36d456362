"""Trees, bushes and hedges."""

from __future__ import annotations

import numpy as np

from slotseg.data.synthetic.streets.outlines import (
    blob,
    capsule,
    facing,
    rectangle,
    scaled,
    upright,
)
from slotseg.data.synthetic.streets.palette import PLANTS, paint
from slotseg.data.synthetic.streets.scene import Color, Face, Light, Surface, Texture

_BARK: Color = (0.25, 0.20, 0.16)


def tree(
    rng: np.random.Generator, place: tuple[float, float], camera_t: float, light: Light
) -> tuple[list[Face], float]:
    """A tree of lobes on a trunk. Returns the faces and the radius of the crown in metres."""
    direction = facing(place, camera_t)
    height = float(rng.uniform(5.0, 13.0))
    crown = float(rng.uniform(0.22, 0.36)) * height
    trunk = float(rng.uniform(0.25, 0.42)) * height
    thick = 0.012 * height + 0.06
    color = paint(rng, PLANTS[:7])
    base = light.shade((0, 0.5, -0.85))
    conifer = rng.random() < 0.15
    bark = scaled(paint(rng, (_BARK,)), base)
    faces = [
        upright(
            capsule((0, 0), (0, trunk + crown), thick, thick * 0.6)[None],
            bark,
            place,
            direction,
            Texture.PLANKS,
        )
    ]
    if conifer:
        for k in range(5):
            low = trunk * 0.4 + (height - trunk * 0.4) * k / 5
            width = crown * 0.8 * (1 - k / 5.6)
            tier = np.array([(-width, low), (width, low), (0.0, low + (height - low) * 0.62)])
            tier = np.concatenate([tier[:1], (tier[:1] + tier[1:2]) / 2 + (0, 0.3), tier[1:]])
            shade = scaled(color, base * (0.75 + 0.06 * k))
            faces.append(upright(tier[None], shade, place, direction, Texture.LEAVES))
        return faces, crown
    for sign in (-1, 1):
        branch = capsule(
            (0, trunk * 0.9), (sign * crown * 0.5, trunk + crown * 0.6), thick * 0.6, 0.03
        )
        faces.append(upright(branch[None], bark, place, direction))
    middle = (trunk + height) / 2
    sunny = 0.12 * np.sign(light.sun[0]) * direction[0]
    for k in range(9):
        angle, reach = rng.uniform(0, 2 * np.pi), crown * 0.62 * rng.random() ** 0.5
        x, y = reach * np.cos(angle), reach * np.sin(angle) * (height - trunk) / (2 * crown)
        size = crown * float(rng.uniform(0.38, 0.62))
        # Lobes higher up, towards the sun and painted later are brighter.
        factor = 0.72 + 0.035 * k + 0.14 * y / crown + sunny * x / crown
        lobe = blob(rng, (x, middle + y), size, size * 0.9, 0.12)
        shade = scaled(color, base * max(factor, 0.45))
        faces.append(upright(lobe[None], shade, place, direction, Texture.LEAVES))
    return faces, crown


def bush(
    rng: np.random.Generator, place: tuple[float, float], camera_t: float, light: Light
) -> list[Face]:
    """A bush of a few lobes on the ground."""
    direction = facing(place, camera_t)
    size = float(rng.uniform(0.5, 1.5))
    color = paint(rng, PLANTS)
    base = light.shade((0, 0.5, -0.85))
    faces = []
    for k in range(4):
        x = size * float(rng.uniform(-0.8, 0.8))
        lobe = blob(rng, (x, size * 0.5), size * 0.7, size * 0.6, 0.13)
        lobe[:, 1] = np.maximum(lobe[:, 1], 0)
        shade = scaled(color, base * (0.75 + 0.09 * k))
        faces.append(upright(lobe[None], shade, place, direction, Texture.LEAVES))
    return faces


def hedge(
    rng: np.random.Generator,
    start: tuple[float, float],
    length: float,
    shade: float,
    height: float,
) -> list[Face]:
    """A hedge, or the edge of a wood, along the street from ``start`` (t, z)."""
    color = scaled(paint(rng, PLANTS[:7]), shade)
    faces = []
    step = 5.0
    for begin in np.arange(0.0, length, step):
        stop = min(begin + step, length)
        tops = np.linspace(stop, begin, 8)
        ragged = height * (1 + 0.12 * rng.standard_normal(8))
        outline = np.concatenate(
            [rectangle(begin, stop, 0, 0)[:2], np.stack([tops, ragged], axis=1)]
        )
        tone = scaled(color, float(rng.uniform(0.85, 1.15)))
        faces.append(
            upright(outline[None], tone, start, (0.0, 1.0), Texture.LEAVES, Surface.FACADE)
        )
    return faces


def distant_wood(rng: np.random.Generator, z: float, shade: float) -> list[Face]:
    """A ragged skyline of trees across the whole view at ``z``."""
    color = scaled(paint(rng, PLANTS[:4]), shade * 0.9)
    faces = []
    for layer in range(2):
        x = np.linspace(-220, 220, 90)
        heights = 5 + 7 * rng.random(90) + 4 * np.sin(x / 23 + rng.uniform(0, 6))
        top = np.stack([x, heights * (1.15 - 0.35 * layer)], axis=1)
        outline = np.concatenate([[(220.0, -0.3), (-220.0, -0.3)], top])
        tone = scaled(color, 0.85 + 0.2 * layer)
        faces.append(upright(outline[None], tone, (0.0, z - layer), texture=Texture.LEAVES))
    return faces
